"""Drop documents that are hardly made of letters."""

from __future__ import annotations

from pydantic import Field

from pipeline.corpus.character_kinds import count_kinds
from pipeline.corpus.documents import Document
from pipeline.corpus.filters.base_filter import Filter


class MinAlphabeticRatio(Filter, type="min_alphabetic_ratio"):
    """Drop documents in which fewer than `value` of the visible characters are letters, of any script, with marks."""

    value: float = Field(default=0.5, ge=0, le=1)
    """Smallest part of the visible characters that are letters."""

    def reason_to_drop(self, document: Document) -> str | None:
        kinds = count_kinds(document.text)
        return "fewer letters than min_alphabetic_ratio" if kinds["letter"] < self.value * kinds["visible"] else None
