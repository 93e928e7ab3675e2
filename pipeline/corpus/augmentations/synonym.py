"""Replace words by others of the same meaning."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

from pipeline.corpus.augmentations.base_plain_words import PlainWords
from pipeline.corpus.word_groups import SYNONYMS, files_of_lexicon, others_of_lexicon


class Synonym(PlainWords, type="synonym"):
    """Replace words by others of the same group of a lexicon."""

    lexicon: Path | None = None
    """File with a group of interchangeable words a line, separated by commas. Null takes the shipped one."""

    def files_of_key(self) -> Mapping[str, Sequence[Path]]:
        """The lexicon, whose mistakes are told before anything runs."""
        return files_of_lexicon(self.lexicon, SYNONYMS)

    def may_change(self, word: str) -> bool:
        """Whether the lexicon has the word."""
        return word in self._others

    def replacement(self, word: str, generator: random.Random) -> str:
        """Another word of its group."""
        return generator.choice(self._others[word])

    @cached_property
    def _others(self) -> dict[str, tuple[str, ...]]:
        return others_of_lexicon(self.lexicon or SYNONYMS)
