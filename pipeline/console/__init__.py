"""The terminal: errors in one line, standard streams that may break, filters of log messages."""
