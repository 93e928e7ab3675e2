"""Drop documents that are mostly numbers."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pipeline.corpus.character_kinds import count_kinds
from pipeline.corpus.documents import Document
from pipeline.corpus.filters.base_filter import Filter


class MaxDigitRatio(Filter):
    """Documents of whose visible characters more than this part are digits are dropped."""

    type: Literal["max_digit_ratio"] = "max_digit_ratio"
    """Largest part of digits."""

    value: float = Field(default=0.3, ge=0, le=1)
    """Largest part of the visible characters that are digits."""

    def reason_to_drop(self, document: Document) -> str | None:
        kinds = count_kinds(document.text)
        return "more digits than max_digit_ratio" if kinds["digit"] > self.value * kinds["visible"] else None
