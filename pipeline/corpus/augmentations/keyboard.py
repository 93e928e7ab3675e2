"""Mistype words."""

from __future__ import annotations

import random
from typing import ClassVar

from pydantic import Field

from pipeline.corpus.augmentations.base_plain_words import PlainWords
from pipeline.corpus.nlpaug_tables import keyboard_neighbours

MIN_LETTERS = 4


class Keyboard(PlainWords, type="keyboard"):
    """Mistype words: a letter is replaced by a neighbour on the keyboard."""

    libraries: ClassVar[tuple[str, ...]] = ("nlpaug",)

    probability: float = Field(default=0.02, ge=0, le=1)
    """Chance of each plain word of four letters or more to be mistyped."""

    def may_change(self, word: str) -> bool:
        """Whether the word is long enough to be recognized in spite of an error."""
        return len(word) >= MIN_LETTERS

    def replacement(self, word: str, generator: random.Random) -> str:
        """The word with one letter mistyped."""
        place = generator.randrange(len(word))
        return word[:place] + generator.choice(keyboard_neighbours()[word[place]]) + word[place + 1 :]
