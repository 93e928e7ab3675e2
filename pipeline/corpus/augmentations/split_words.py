"""Break words in two."""

from __future__ import annotations

import random

from pydantic import Field

from pipeline.corpus.augmentations.base_plain_words import PlainWords

MIN_LETTERS = 4


class SplitWords(PlainWords, type="split_words"):
    """Break words in two: a space is put somewhere into them."""

    probability: float = Field(default=0.02, ge=0, le=1)
    """Chance of each plain word of four letters or more to be broken."""

    def may_change(self, word: str) -> bool:
        """Whether the word is long enough for two parts."""
        return len(word) >= MIN_LETTERS

    def replacement(self, word: str, generator: random.Random) -> str:
        """The word in two parts."""
        place = generator.randrange(1, len(word))
        return f"{word[:place]} {word[place:]}"
