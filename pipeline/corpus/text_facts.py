"""What filters ask of texts, counted for a whole batch at once, and once for all filters."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import compress

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus.shingles import Words, words_of

LONG_CHARS = 1_000_000
"""Longer texts are counted alone: temporary arrays are several times as large as the texts."""


@dataclass(frozen=True)
class CharacterKinds:
    """How many characters of a kind each text has. Combining marks count as letters, for the vowels of many scripts
    are marks. Punctuation counts as symbols."""

    letters: NDArray[np.int64]
    digits: NDArray[np.int64]
    symbols: NDArray[np.int64]

    @property
    def visible(self) -> NDArray[np.int64]:
        """All characters that are seen."""
        return self.letters + self.digits + self.symbols


class TextFacts:
    """Facts of the texts of a batch, each counted when it is first asked for."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = texts

    @cached_property
    def kinds(self) -> CharacterKinds:
        """The characters of each text by kind."""
        return count_kinds(self.texts)

    @cached_property
    def words(self) -> Words:
        """The words of the texts, as hashes."""
        return words_of(self.texts)

    def keep(self, mask: NDArray[np.bool_]) -> TextFacts:
        """The facts of the texts where `mask` is true. What was counted is not counted again."""
        kept = TextFacts(list(compress(self.texts, mask.tolist())))
        if "kinds" in vars(self):
            kinds = self.kinds
            kept.kinds = CharacterKinds(kinds.letters[mask], kinds.digits[mask], kinds.symbols[mask])
        if "words" in vars(self):
            kept.words = self.words.keep(mask)
        return kept


def count_kinds(texts: Sequence[str]) -> CharacterKinds:
    """The characters of each text by kind: of ASCII by a table over all bytes, of others by distinct character."""
    counts = np.zeros((len(_KINDS), len(texts)), dtype=np.int64)
    by_table = [n for n, text in enumerate(texts) if 0 < len(text) <= LONG_CHARS and text.isascii()]
    if by_table:
        plain = [texts[n] for n in by_table]
        lengths = np.fromiter(map(len, plain), np.int64, len(plain))
        kinds = _ASCII_KINDS[np.frombuffer("".join(plain).encode(), np.uint8)]
        starts = np.cumsum(lengths) - lengths
        for kind in range(len(_KINDS)):
            counts[kind, by_table] = np.add.reduceat(kinds == kind, starts, dtype=np.int64)
    for n in sorted(set(range(len(texts))).difference(by_table)):
        for char, count in Counter(texts[n]).items():
            if (kind := _kind(char)) != _INVISIBLE:
                counts[kind, n] += count
    return CharacterKinds(*counts)


_KINDS = ("LM", "N", "PS")
"""First letters of the Unicode categories of letters, digits and symbols."""

_INVISIBLE = len(_KINDS)


@cache
def _kind(char: str) -> int:
    category = unicodedata.category(char)[0]
    return next((kind for kind, initials in enumerate(_KINDS) if category in initials), _INVISIBLE)


_ASCII_KINDS = np.array([_kind(chr(code)) for code in range(128)], dtype=np.uint8)
