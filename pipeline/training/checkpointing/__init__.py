"""Checkpoints: taken, written, verified, restored, gone on from."""
