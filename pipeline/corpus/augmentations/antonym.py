"""Replace words by their opposites."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

from pydantic import Field

from pipeline.corpus.augmentations.base_plain_words import PlainWords
from pipeline.corpus.word_groups import ANTONYMS, files_of_lexicon, others_of_lexicon


class Antonym(PlainWords, type="antonym"):
    """Replace words by their opposites. The copy says something else: its label, where it has one, may be wrong."""

    probability: float = Field(default=0.1, ge=0, le=1)
    """Chance of each plain word with an opposite to be replaced."""

    lexicon: Path | None = None
    """File with a pair of opposites a line, separated by a comma. Null takes the shipped one."""

    def files_of_key(self) -> Mapping[str, Sequence[Path]]:
        """The lexicon, whose mistakes are told before anything runs."""
        return files_of_lexicon(self.lexicon, ANTONYMS)

    def may_change(self, word: str) -> bool:
        """Whether the lexicon has the word."""
        return word in self._others

    def may_change_at(self, text: str, start: int) -> bool:
        """Not behind a negation: "not good" is near to "bad", and "not bad" is no opposite of it."""
        return _NEGATED.search(text, max(0, start - 40), start) is None

    def replacement(self, word: str, generator: random.Random) -> str:
        """The opposite."""
        return generator.choice(self._others[word])

    @cached_property
    def _others(self) -> dict[str, tuple[str, ...]]:
        return others_of_lexicon(self.lexicon or ANTONYMS)


_NEGATED = re.compile(r"(?:\b(?:not|no|never|neither|nor|without|hardly|cannot)|n't)\s+(?:\w+\s+)?$", re.IGNORECASE)
