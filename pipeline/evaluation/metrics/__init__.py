"""Metrics of models as `evaluate` modules: each file is loaded by its path, never imported."""
