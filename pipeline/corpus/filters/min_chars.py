"""Drop documents that are too short."""

from __future__ import annotations

from pydantic import Field

from pipeline.corpus.documents import Document
from pipeline.corpus.filters.base_filter import Filter


class MinChars(Filter, type="min_chars"):
    """Drop documents with fewer characters than `value`."""

    value: int = Field(default=50, ge=0)
    """Fewest characters of a document."""

    def reason_to_drop(self, document: Document) -> str | None:
        return "shorter than min_chars" if len(document.text) < self.value else None
