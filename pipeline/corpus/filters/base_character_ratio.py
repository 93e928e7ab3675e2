"""What filters by the kinds of characters have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from pipeline.corpus.documents import Document
from pipeline.corpus.filters.base_filter import Filter

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pipeline.corpus.document_batches import DocumentBatch
    from pipeline.corpus.text_facts import CharacterKinds, TextFacts


class CharacterRatio(Filter):
    """Drops documents by which part of their visible characters are of a kind."""

    reason: ClassVar[str]
    """Why documents go."""

    @abstractmethod
    def fails(self, kinds: CharacterKinds) -> NDArray[np.bool_]:
        """Which texts have too many or too few characters of the kind."""

    def reason_to_drop(self, document: Document) -> str | None:
        from pipeline.corpus.text_facts import count_kinds

        return self.reason if self.fails(count_kinds([document.text]))[0] else None

    def reasons(self, batch: DocumentBatch, seen: TextFacts) -> Sequence[str | None]:
        return [self.reason if failed else None for failed in self.fails(seen.kinds).tolist()]
