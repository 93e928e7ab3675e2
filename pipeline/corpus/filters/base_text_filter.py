"""What filters have that look at the text alone."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline.corpus.documents import Document
from pipeline.corpus.filters.base_filter import Filter

if TYPE_CHECKING:
    from pipeline.corpus.document_batches import DocumentBatch
    from pipeline.corpus.text_facts import TextFacts


class TextFilter(Filter):
    """Says by their text which documents are not worth learning from."""

    @abstractmethod
    def reason_of(self, text: str) -> str | None:
        """Why a document with this text has to go, or None."""

    def reason_to_drop(self, document: Document) -> str | None:
        return self.reason_of(document.text)

    def reasons(self, batch: DocumentBatch, seen: TextFacts) -> Sequence[str | None]:
        return list(map(self.reason_of, batch.texts))


def share_of(lines: Sequence[bool]) -> float:
    """Which part of them is true; 0 of none."""
    return sum(lines) / len(lines) if lines else 0.0
