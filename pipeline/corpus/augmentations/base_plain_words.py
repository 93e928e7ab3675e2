"""Augmentations that change single words of prose."""

from __future__ import annotations

import random
from abc import abstractmethod
from functools import cached_property

from pydantic import Field

from pipeline.corpus.augmentations.base_augmentation import Augmentation, Draw
from pipeline.corpus.edits import Edit
from pipeline.corpus.prose_words import FUNCTION_WORDS, in_case_of, prose_words


class PlainWords(Augmentation):
    """Replaces plain words of prose, each drawn by itself. All else stays as it is."""

    probability: float = Field(default=0.1, ge=0, le=1)
    """Chance of each word that may change to be changed."""

    @abstractmethod
    def may_change(self, word: str) -> bool:
        """Whether a word, in lower case, is one that the operation is for."""

    def may_change_at(self, text: str, start: int) -> bool:
        """Whether the word that begins at `start` may change, for what stands around it."""
        return True

    @abstractmethod
    def replacement(self, word: str, generator: random.Random) -> str:
        """What takes the place of a word, both in lower case."""

    def edits(self, text: str, draw: Draw) -> list[Edit]:
        """An edit for each word that was drawn; a capital letter at its beginning is kept."""
        generator = draw.random()
        edits = []
        for match in prose_words(text):
            word = match[0].lower()
            may_change = self.may_change(word) and self.may_change_at(text, match.start())
            if may_change and generator.random() < self.probability:
                edits.append(Edit(*match.span(), in_case_of(match[0], self.replacement(word, generator))))
        return edits


class LookedUpWords(PlainWords):
    """Replaces words by those that are found for them elsewhere. Words that carry grammar stay."""

    @abstractmethod
    def look_up(self, word: str) -> tuple[str, ...]:
        """What may take the place of a word, both in lower case."""

    def may_change(self, word: str) -> bool:
        """Whether anything may take its place."""
        return bool(self._words_for(word))

    def replacement(self, word: str, generator: random.Random) -> str:
        """One of what was found, drawn."""
        return generator.choice(self._words_for(word))

    def _words_for(self, word: str) -> tuple[str, ...]:
        if word not in self._found:
            self._found[word] = () if word in FUNCTION_WORDS else self.look_up(word)
        return self._found[word]

    @cached_property
    def _found(self) -> dict[str, tuple[str, ...]]:
        return {}
