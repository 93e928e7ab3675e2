"""Drop documents that are too small."""

from __future__ import annotations

from pydantic import Field

from pipeline.corpus.documents import utf8_length
from pipeline.corpus.filters.base_text_filter import TextFilter


class MinBytes(TextFilter, type="min_bytes"):
    """Drop documents of fewer bytes (UTF-8) than `value`."""

    value: int = Field(ge=0)
    """Fewest bytes of a document."""

    def reason_of(self, text: str) -> str | None:
        return "smaller than min_bytes" if utf8_length(text) < self.value else None
