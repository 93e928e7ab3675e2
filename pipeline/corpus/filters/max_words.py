"""Drop documents with too many words."""

from __future__ import annotations

from pydantic import Field

from pipeline.corpus.filters.base_text_filter import TextFilter


class MaxWords(TextFilter, type="max_words"):
    """Drop documents with more words than `value`. Words are runs of characters between white space."""

    value: int = Field(ge=1)
    """Most words of a document."""

    def reason_of(self, text: str) -> str | None:
        # A long text is not split into all of its words.
        return "more than max_words" if len(text.split(None, self.value)) > self.value else None
