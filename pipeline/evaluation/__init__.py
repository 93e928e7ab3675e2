"""Losses to perplexity and bits per byte; metrics, samples and baselines."""
