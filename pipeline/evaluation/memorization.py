"""How much of what a model writes stands word for word in its training text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.tokens.token_streams import TokenStream

FEWEST_TOKENS = 8
"""Shorter repetitions are common phrases."""

IDS_AT_ONCE = 2**22
_FACTOR = np.uint64(0x9E3779B97F4A7C15)


def longest_copies(stream: TokenStream | NDArray[np.uint16], texts: Sequence[Sequence[int]]) -> list[tuple[int, int]]:
    """For each text, given as ids, the longest run of its tokens that stands in the stream: where it starts in the text
    and how many tokens it has; (0, 0) where none has FEWEST_TOKENS or more."""
    places: dict[int, list[tuple[int, int]]] = {}
    for number, text in enumerate(texts):
        for start, value in enumerate(_hashes(np.array(text, dtype=np.uint64)).tolist()):
            places.setdefault(value, []).append((number, start))
    wanted = np.array([*places], dtype=np.uint64)
    longest = [(0, 0)] * len(texts)
    for first in range(0, len(stream), IDS_AT_ONCE):
        found = _hashes(stream[first : first + IDS_AT_ONCE + FEWEST_TOKENS - 1].astype(np.uint64))
        hits = np.flatnonzero(np.isin(found, wanted))
        for position, value in zip((first + hits).tolist(), found[hits].tolist(), strict=True):
            for number, start in places[value]:
                rest = np.array(texts[number][start:])
                there = stream[position : position + len(rest)]
                length = _common(rest, there)
                if length >= FEWEST_TOKENS and length > longest[number][1]:
                    longest[number] = (start, length)
    return longest


def _hashes(ids: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """A hash of each FEWEST_TOKENS ids in a row, modulo 2^64."""
    number = max(0, len(ids) - FEWEST_TOKENS + 1)
    found = np.zeros(number, dtype=np.uint64)
    for shift in range(FEWEST_TOKENS):
        found = found * _FACTOR + ids[shift : shift + number] + np.uint64(1)
    return found


def _common(one: NDArray[np.int64], other: NDArray[np.uint16]) -> int:
    """How many elements both begin with."""
    both = min(len(one), len(other))
    differs = one[:both] != other[:both]
    return int(differs.argmax()) if differs.any() else both
