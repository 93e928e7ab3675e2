"""Drop documents that are mostly punctuation and symbols."""

from __future__ import annotations

from pydantic import Field

from pipeline.corpus.character_kinds import count_kinds
from pipeline.corpus.documents import Document
from pipeline.corpus.filters.base_filter import Filter


class MaxSymbolRatio(Filter, type="max_symbol_ratio"):
    """Drop documents in which more than `value` of the visible characters are punctuation or symbols."""

    value: float = Field(default=0.4, ge=0, le=1)
    """Largest part of the visible characters that are punctuation or symbols."""

    def reason_to_drop(self, document: Document) -> str | None:
        kinds = count_kinds(document.text)
        return "more symbols than max_symbol_ratio" if kinds["symbol"] > self.value * kinds["visible"] else None
