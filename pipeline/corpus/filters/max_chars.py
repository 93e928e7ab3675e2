"""Drop documents that are too long."""

from __future__ import annotations

from pydantic import Field

from pipeline.corpus.documents import Document
from pipeline.corpus.filters.base_filter import Filter


class MaxChars(Filter, type="max_chars"):
    """Drop documents with more characters than `value`."""

    value: int = Field(ge=1)
    """Most characters of a document."""

    def reason_to_drop(self, document: Document) -> str | None:
        return "longer than max_chars" if len(document.text) > self.value else None
