"""Misspell words."""

from __future__ import annotations

import random
from typing import ClassVar

from pydantic import Field

from pipeline.corpus.augmentations.base_plain_words import PlainWords
from pipeline.corpus.nlpaug_tables import misspellings


class Spelling(PlainWords, type="spelling"):
    """Misspell English words as people do, by a list of their errors."""

    libraries: ClassVar[tuple[str, ...]] = ("nlpaug",)

    probability: float = Field(default=0.05, ge=0, le=1)
    """Chance of each plain word on the list to be misspelled."""

    def may_change(self, word: str) -> bool:
        """Whether the list has errors for the word."""
        return word in misspellings()

    def replacement(self, word: str, generator: random.Random) -> str:
        """One of the errors, drawn."""
        return generator.choice(misspellings()[word])
