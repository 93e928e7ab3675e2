"""No capitals."""

from __future__ import annotations

from typing import Literal

from pipeline.corpus.steps.base_step import Step


class Lowercase(Step):
    """Turn all letters into lower case."""

    type: Literal["lowercase"] = "lowercase"
    """Lower case."""

    def apply(self, text: str) -> str:
        """The text in lower case."""
        return text.lower()
