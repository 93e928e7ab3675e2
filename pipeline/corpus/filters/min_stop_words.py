"""Drop documents without the words that any prose has."""

from __future__ import annotations

from pydantic import Field

from pipeline.corpus.filters.base_text_filter import TextFilter

STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")
"""Those of Gopher."""


class MinStopWords(TextFilter, type="min_stop_words"):
    """Drop documents with fewer than `value` different words of `stop_words`. Words are runs of characters between
    white space."""

    value: int = Field(default=2, ge=0)
    """Fewest different words of `stop_words`."""

    stop_words: list[str] = Field(default=list(STOP_WORDS))
    """Words that any prose has, as they are written."""

    def reason_of(self, text: str) -> str | None:
        return (
            "fewer than min_stop_words" if len(set(self.stop_words).intersection(text.split())) < self.value else None
        )
