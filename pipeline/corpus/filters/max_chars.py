"""Drop documents that are too long."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pipeline.corpus.documents import Document
from pipeline.corpus.filters.base_filter import Filter


class MaxChars(Filter):
    """Documents with more characters than `value` are dropped."""

    type: Literal["max_chars"] = "max_chars"
    """Most characters."""

    value: int = Field(ge=1)
    """Most characters of a document."""

    def reason_to_drop(self, document: Document) -> str | None:
        return "longer than max_chars" if len(document.text) > self.value else None
