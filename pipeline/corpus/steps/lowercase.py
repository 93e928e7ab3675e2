"""Lowercase the text."""

from __future__ import annotations

from pipeline.corpus.steps.base_step import Step


class Lowercase(Step, type="lowercase"):
    """Turn all letters into lower case."""

    def apply(self, text: str) -> str:
        """The text in lower case."""
        return text.lower()
