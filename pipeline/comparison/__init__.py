"""Runs side by side, for `descent diff`."""
