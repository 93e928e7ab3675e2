"""Drop documents that are too short."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import Field

from pipeline.corpus.documents import Document
from pipeline.corpus.filters.base_filter import Filter

if TYPE_CHECKING:
    from pipeline.corpus.document_batches import DocumentBatch
    from pipeline.corpus.text_facts import TextFacts


class MinChars(Filter, type="min_chars"):
    """Drop documents with fewer characters than `value`."""

    value: int = Field(default=50, ge=0)
    """Fewest characters of a document."""

    def reason_to_drop(self, document: Document) -> str | None:
        return self._reason(document.text)

    def reasons(self, batch: DocumentBatch, seen: TextFacts) -> Sequence[str | None]:
        return list(map(self._reason, batch.texts))

    def _reason(self, text: str) -> str | None:
        return "shorter than min_chars" if len(text) < self.value else None
