"""Lowercase the text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.corpus.steps.base_step import Step
from pipeline.features import UNICODE


class Lowercase(Step, type="lowercase"):
    """Turn all letters into lower case."""

    def facts_of_key(self) -> Mapping[str, Any]:
        return UNICODE

    def apply(self, text: str) -> str:
        """The text in lower case."""
        return text.lower()
