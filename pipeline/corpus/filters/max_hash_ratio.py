"""Drop documents full of hash signs."""

from __future__ import annotations

from pydantic import Field

from pipeline.corpus.filters.base_text_filter import TextFilter


class MaxHashRatio(TextFilter, type="max_hash_ratio"):
    """Drop documents with more than `value` hash signs a word. Words are runs of characters between white space."""

    value: float = Field(default=0.1, ge=0)
    """Most hash signs a word."""

    def reason_of(self, text: str) -> str | None:
        num_hashes = text.count("#")
        if num_hashes and num_hashes > self.value * len(text.split()):
            return "more hash signs than max_hash_ratio"
        return None
