"""What filters have that may take parts of a text away."""

from __future__ import annotations

from abc import abstractmethod

from pipeline.corpus.documents import Document
from pipeline.corpus.filters.base_filter import Filter


class EditingFilter(Filter):
    """Says what stays of a text. The filters behind it, and all that follows, see that."""

    @abstractmethod
    def edited(self, text: str) -> tuple[str, str | None]:
        """What stays of a text, and why its document has to go, or None. Depends on the text alone."""

    def reason_to_drop(self, document: Document) -> str | None:
        return self.edited(document.text)[1]
