"""Training: data order, optimization, checkpoints, metrics, and the loop that joins them."""
