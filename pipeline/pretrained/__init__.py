"""What others made: which folder or repository it is, and whether it may be opened."""
