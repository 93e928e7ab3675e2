"""What every filter has."""

from __future__ import annotations

from abc import abstractmethod

from pipeline.corpus.documents import Document
from pipeline.features import Feature


class Filter(Feature):
    """Says which documents are not worth learning from."""

    @abstractmethod
    def reason_to_drop(self, document: Document) -> str | None:
        """Why a document has to go, in words that are counted, or None when it may stay. Depends on it alone."""
