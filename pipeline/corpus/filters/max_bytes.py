"""Drop documents that are too large."""

from __future__ import annotations

from pydantic import Field

from pipeline.corpus.documents import utf8_length
from pipeline.corpus.filters.base_text_filter import TextFilter


class MaxBytes(TextFilter, type="max_bytes"):
    """Drop documents of more bytes (UTF-8) than `value`."""

    value: int = Field(ge=1)
    """Most bytes of a document."""

    def reason_of(self, text: str) -> str | None:
        return "larger than max_bytes" if utf8_length(text) > self.value else None
