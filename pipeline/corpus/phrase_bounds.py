"""Upper bounds of how much of a text its repeated phrases are, for many texts at once.

Words are runs of characters between white space, phrases are runs of `n` words. Phrases are compared by a hash of their
characters without the white space. Hashes that meet by chance only raise a bound.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

PIECE_CHARS = 250_000
"""About how many characters are looked at together: temporary arrays are tens of times as large."""

LONG_CHARS = 1_000_000
"""Longer texts get no bound below their length."""

_PLACE_BITS = 20
"""Bits of a sorted key that say where a phrase stands; LONG_CHARS and PIECE_CHARS hold fewer words. The others are of
its hash."""

_BUCKET_BITS = 18


class PhraseBounds:
    """What the phrases of texts come to at most, in characters; `text` and all arrays of results are by text."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.num_texts = len(texts)
        joined = " ".join(texts)
        codes = _codes(joined)
        visible = ~_are_spaces(codes)
        edges = np.flatnonzero(np.diff(visible, prepend=False, append=False))
        starts, stops = edges[::2], edges[1::2]
        first_chars = np.cumsum([0, *(len(text) + 1 for text in texts)])
        num_words = np.diff(np.searchsorted(starts, first_chars))
        self.text = np.repeat(np.arange(len(texts)), num_words)
        """Which text each word is of."""
        self.lengths = stops - starts
        self.ends = _before_each(self.lengths)
        values = _VALUES[codes[visible].astype(np.uint16)] * _powers(int(self.ends[-1]))[0]
        per_word = np.add.reduceat(values, self.ends[:-1]) if len(starts) else values
        self.sums = _before_each(per_word)

    def most_frequent(self, n: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Length of the most frequent phrase with the spaces in it, times how often it stands there; and whether the
        bound is exact, as it is where no phrase repeats."""
        starts, again, number = self._phrases(n)
        lengths = self.ends[starts + n] - self.ends[starts] + n - 1
        bounds = np.zeros(self.num_texts, dtype=np.int64)
        bounds[self.text[starts[::-1]]] = lengths[::-1]  # of phrases that stand there once each the first counts
        times = np.bincount(number) + 1
        np.maximum.at(bounds, self.text[again], times[number] * (self.ends[again + n] - self.ends[again] + n - 1))
        is_exact = np.ones(self.num_texts, dtype=bool)
        is_exact[self.text[again]] = False
        return bounds, is_exact

    def repeated(self, n: int) -> NDArray[np.int64]:
        """Characters, without white space, in phrases that stood in their text before."""
        _, again, _ = self._phrases(n)
        num_words = len(self.lengths)
        steps = np.bincount(again, minlength=num_words + 1) - np.bincount(again + n, minlength=num_words + 1)
        inside = np.cumsum(steps)[:num_words] > 0
        return np.bincount(self.text[inside], self.lengths[inside], self.num_texts).astype(np.int64)

    def _phrases(self, n: int) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
        """The first words of all phrases; of those that stood there before; and of these which phrase it is."""
        starts = np.flatnonzero(self.text[n - 1 :] == self.text[: max(len(self.text) - n + 1, 0)])
        inverse = _powers(int(self.ends[-1]))[1]
        hashes = (self.sums[starts + n] - self.sums[starts]) * inverse[self.ends[starts]]
        hashes = _mixed(hashes + self.text[starts].astype(np.uint64) * _BASE)
        # To sort takes long: only those are sorted of which there may be another one.
        buckets = (hashes >> np.uint64(64 - _BUCKET_BITS)).astype(np.int64)
        may_repeat = np.bincount(buckets, minlength=1 << _BUCKET_BITS)[buckets] > 1
        place = np.uint64((1 << _PLACE_BITS) - 1)
        keys = np.sort(hashes[may_repeat] & ~place | starts[may_repeat].astype(np.uint64))
        values = keys >> np.uint64(_PLACE_BITS)
        is_again = np.zeros(len(keys), dtype=bool)
        is_again[1:] = values[1:] == values[:-1]
        again = (keys[is_again] & place).astype(np.intp)
        return starts, again, np.cumsum(~is_again)[is_again] - 1


def pieces(texts: Sequence[str]) -> Iterator[slice]:
    """Texts next to each other, about PIECE_CHARS together; a text of more than LONG_CHARS is in none."""
    first = num_chars = 0
    for number, text in enumerate(texts):
        if len(text) > LONG_CHARS or (num_chars and num_chars + len(text) > PIECE_CHARS):
            if number > first:
                yield slice(first, number)
            first, num_chars = number + (len(text) > LONG_CHARS), 0
        num_chars += len(text) if len(text) <= LONG_CHARS else 0
    if len(texts) > first:
        yield slice(first, len(texts))


def _codes(text: str) -> NDArray[np.uint8] | NDArray[np.uint32]:
    if text.isascii():
        return np.frombuffer(text.encode(), np.uint8)
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


def _before_each(values: NDArray) -> NDArray:
    """The sum of all before each value, and of all."""
    return np.concatenate([np.zeros(1, values.dtype), np.cumsum(values)])


def _are_spaces(codes: NDArray) -> NDArray[np.bool_]:
    return _SPACES[codes if codes.dtype == np.uint8 else np.minimum(codes, len(_SPACES) - 1)]


_SPACES = np.array([chr(code).isspace() for code in range(0x3002)])
"""Whether a character is white space to `str.split`; the last one stands for all beyond."""


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finalizer of splitmix64."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


_VALUES = _mixed(np.arange(1, (1 << 16) + 1, dtype=np.uint64))
"""A number for the low 16 bits of each character."""

_BASE = np.uint64(0x9E3779B97F4A7C15)


def _powers(num_chars: int) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Powers of the base of the hash, and of its inverse, modulo 2^64."""
    base, inverse = _table(max(num_chars, 2 * PIECE_CHARS).bit_length())
    return base[:num_chars], inverse


@cache
def _table(num_bits: int) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    return _all_powers(int(_BASE), num_bits), _all_powers(pow(int(_BASE), -1, 1 << 64), num_bits)


def _all_powers(base: int, num_bits: int) -> NDArray[np.uint64]:
    found = np.ones(1, dtype=np.uint64)
    for bit in range(num_bits):
        found = np.concatenate([found, found * np.uint64(pow(base, 1 << bit, 1 << 64))])
    return found
