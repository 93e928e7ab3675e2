"""Drop documents with too few words."""

from __future__ import annotations

import re

from pydantic import Field

from pipeline.corpus.documents import Document
from pipeline.corpus.filters.base_filter import Filter

_WORD = re.compile(r"\S+")


class MinWords(Filter, type="min_words"):
    """Drop documents with fewer words than `value`. Words are runs of characters between white space."""

    value: int = Field(default=5, ge=0)
    """Fewest words of a document."""

    def reason_to_drop(self, document: Document) -> str | None:
        # A long text is not split into all of its words.
        words = _WORD.finditer(document.text)
        return "fewer than min_words" if any(next(words, None) is None for _ in range(self.value)) else None
