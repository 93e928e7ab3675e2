"""Cached stages, knowing nothing of language models: identity, artifacts, runner, launches, runs."""
