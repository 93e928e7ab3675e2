"""Drop documents that are mostly numbers."""

from __future__ import annotations

from pydantic import Field

from pipeline.corpus.character_kinds import count_kinds
from pipeline.corpus.documents import Document
from pipeline.corpus.filters.base_filter import Filter


class MaxDigitRatio(Filter, type="max_digit_ratio"):
    """Drop documents in which more than `value` of the visible characters are digits."""

    value: float = Field(default=0.3, ge=0, le=1)
    """Largest part of the visible characters that are digits."""

    def reason_to_drop(self, document: Document) -> str | None:
        kinds = count_kinds(document.text)
        return "more digits than max_digit_ratio" if kinds["digit"] > self.value * kinds["visible"] else None
