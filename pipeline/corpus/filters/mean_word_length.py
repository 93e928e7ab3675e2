"""Drop documents whose words are short or long."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Self

from pydantic import Field, model_validator

from pipeline.corpus.filters.base_text_filter import TextFilter

_LETTER_OR_DIGIT = re.compile(r"[^\W_]")


def word_lengths(words: Sequence[str]) -> list[int]:
    """Characters of each word that has a letter or digit."""
    return [len(word) for word in words if _LETTER_OR_DIGIT.search(word)]


class MeanWordLength(TextFilter, type="mean_word_length"):
    """Drop documents whose words are shorter than `min` or longer than `max` on average.

    Words are runs of characters between white space; those without a letter or digit do not count.
    """

    min: float = Field(default=3, ge=0)
    """Smallest mean length of a word, in characters."""

    max: float = Field(default=10, ge=1)
    """Largest mean length of a word."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}")
        return self

    def reason_of(self, text: str) -> str | None:
        lengths = word_lengths(text.split())
        if not lengths or self.min <= sum(lengths) / len(lengths) <= self.max:
            return None
        return "words too short or too long for mean_word_length"
