"""Two runs side by side, for `descent diff`."""
