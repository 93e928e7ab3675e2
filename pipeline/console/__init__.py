"""What meets a person at a terminal: errors in one line, streams that may break, words of libraries."""
