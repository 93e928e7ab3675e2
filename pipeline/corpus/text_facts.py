"""What filters ask of texts, counted for a whole batch at once, and once for all filters."""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import compress

import numpy as np
from numpy.typing import NDArray

LONG_CHARS = 1_000_000
"""Longer texts are counted in pieces: temporary arrays are several times as large as the texts."""


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

    def keep(self, mask: NDArray[np.bool_]) -> TextFacts:
        """The facts of the texts where `mask` is true. What was counted is not counted again."""
        kept = TextFacts(list(compress(self.texts, mask.tolist())))
        if "kinds" in vars(self):
            kinds = self.kinds
            kept.kinds = CharacterKinds(kinds.letters[mask], kinds.digits[mask], kinds.symbols[mask])
        return kept


def count_kinds(texts: Sequence[str]) -> CharacterKinds:
    """The characters of each text by kind, found in a table."""
    counts = np.zeros((len(_KINDS), len(texts)), dtype=np.int64)
    for is_ascii in (True, False):
        chosen = [n for n, text in enumerate(texts) if 0 < len(text) <= LONG_CHARS and text.isascii() == is_ascii]
        if chosen:
            added = _add_up([texts[n] for n in chosen], is_ascii)
            for kind in range(len(_KINDS)):
                counts[kind, chosen] = added >> kind * _COUNT_BITS & (1 << _COUNT_BITS) - 1
    for n, text in enumerate(texts):
        if len(text) > LONG_CHARS:
            pieces = count_kinds([text[start : start + LONG_CHARS] for start in range(0, len(text), LONG_CHARS)])
            counts[:, n] = pieces.letters.sum(), pieces.digits.sum(), pieces.symbols.sum()
    return CharacterKinds(*counts)


def _add_up(texts: Sequence[str], is_ascii: bool) -> NDArray[np.int64]:
    """For each text one number that has the counts of all kinds beside each other, which is three times as fast as to
    count one kind after the other. No text may be empty."""
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    joined = "".join(texts)
    if is_ascii:
        ones = _ONES[_KIND_OF[:128]][np.frombuffer(joined.encode(), np.uint8)]
    else:
        codes = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), np.uint32)
        for code in np.unique(codes[_KIND_OF[codes] == _UNKNOWN]).tolist():
            _KIND_OF[code] = _kind(chr(code))
        ones = _ONES[_KIND_OF[codes]]
    return np.asarray(np.add.reduceat(ones, np.cumsum(lengths) - lengths), dtype=np.int64)


_KINDS = ("LM", "N", "PS")
"""First letters of the Unicode categories of letters, digits and symbols."""

_INVISIBLE = len(_KINDS)
_UNKNOWN = 255

_COUNT_BITS = 21
"""Bits of a count; LONG_CHARS has to be less than they can hold."""

_ONES = np.array([1 << kind * _COUNT_BITS for kind in range(len(_KINDS))] + [0], dtype=np.int64)
"""One character of each kind, among the counts of all."""


def _kind(char: str) -> int:
    category = unicodedata.category(char)[0]
    return next((kind for kind, initials in enumerate(_KINDS) if category in initials), _INVISIBLE)


_KIND_OF = np.full(sys.maxunicode + 1, _UNKNOWN, dtype=np.uint8)
"""Kind of each character, of ASCII and of those that were seen."""
_KIND_OF[:128] = [_kind(chr(code)) for code in range(128)]
