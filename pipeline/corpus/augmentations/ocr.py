"""Misread words."""

from __future__ import annotations

import random
from typing import ClassVar

from pydantic import Field

from pipeline.corpus.augmentations.base_plain_words import PlainWords
from pipeline.corpus.nlpaug_tables import lookalikes


class Ocr(PlainWords, type="ocr"):
    """Misread words as a scanner does: a letter is replaced by a character that looks like it."""

    libraries: ClassVar[tuple[str, ...]] = ("nlpaug",)

    probability: float = Field(default=0.02, ge=0, le=1)
    """Chance of each plain word with such a letter to be misread."""

    def may_change(self, word: str) -> bool:
        """Whether a letter of the word looks like another character."""
        return any(letter in lookalikes() for letter in word)

    def replacement(self, word: str, generator: random.Random) -> str:
        """The word with one character misread."""
        place = generator.choice([index for index, letter in enumerate(word) if letter in lookalikes()])
        return word[:place] + generator.choice(lookalikes()[word[place]]) + word[place + 1 :]
