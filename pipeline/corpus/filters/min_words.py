"""Drop documents with too few words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import Field

from pipeline.corpus.documents import Document
from pipeline.corpus.filters.base_filter import Filter

if TYPE_CHECKING:
    from pipeline.corpus.document_batches import DocumentBatch
    from pipeline.corpus.text_facts import TextFacts


class MinWords(Filter, type="min_words"):
    """Drop documents with fewer words than `value`. Words are runs of characters between white space."""

    value: int = Field(default=5, ge=0)
    """Fewest words of a document."""

    def reason_to_drop(self, document: Document) -> str | None:
        return self._reason(document.text)

    def reasons(self, batch: DocumentBatch, seen: TextFacts) -> Sequence[str | None]:
        return list(map(self._reason, batch.texts))

    def _reason(self, text: str) -> str | None:
        # A long text is not split into all of its words.
        return "fewer than min_words" if len(text.split(None, self.value)) < self.value else None
