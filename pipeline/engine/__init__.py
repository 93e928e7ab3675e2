"""Stages with cached results: identity, artifacts, runner, launches, runs. Knows nothing of language models."""
