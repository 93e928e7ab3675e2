"""What every filter has."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline.corpus.documents import Document
from pipeline.features import Feature

if TYPE_CHECKING:
    from pipeline.corpus.document_batches import DocumentBatch
    from pipeline.corpus.text_facts import TextFacts


class Filter(Feature):
    """Says which documents are not worth learning from."""

    def check(self) -> None:
        """Raises ConfigError or BadDataError for what is only found when its files are read. Called before the first
        stage."""

    @abstractmethod
    def reason_to_drop(self, document: Document) -> str | None:
        """Why a document has to go, in words that are counted, or None when it may stay. Depends on it alone."""

    def reasons(self, batch: DocumentBatch, seen: TextFacts) -> Sequence[str | None]:
        """The same of each document of a batch, of whose texts `seen` knows facts. A filter may find them faster
        together than `reason_to_drop` one by one."""
        return [self.reason_to_drop(document) for document in batch.documents()]
