"""Descent: one YAML file takes raw text to an evaluated language model."""

__version__ = "0.1.0"
