"""Look hashes up in a large sorted file, which processes share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from pipeline.corpus.array_files import new_mapped_array
from pipeline.corpus.shards import join_files

HASHES, FILTER = "hashes", "filter"

BITS_EACH = 16
MOST_BITS = 1 << 27
CHUNK = 1_000_000

_ONE, _THREE, _SEVEN = np.uint64(1), np.uint64(3), np.uint64(7)


@dataclass(frozen=True)
class HashIndex:
    """Sorted hashes, and a filter by which most of those that are not among them are found without a search: a bit for
    each range of hashes, which says whether there is one in it."""

    hashes: npt.NDArray[np.uint64]
    bits: npt.NDArray[np.uint8]

    @classmethod
    def gather(cls, parts: Sequence[Path], folder: Path) -> Self:
        """Join files of sorted hashes, each of which begins where the one before ends, in a folder."""
        join_files(list(parts), folder / HASHES)
        hashes = map_array(folder / HASHES, np.uint64)
        num_bits = min(MOST_BITS, 1 << max(7, BITS_EACH * len(hashes) - 1).bit_length())
        bits = new_mapped_array(folder / FILTER, np.uint8, num_bits // 8)
        for start in range(0, len(hashes), CHUNK):
            ranges = np.unique(hashes[start : start + CHUNK] >> _shift(num_bits))
            places = ranges >> _THREE
            first = np.flatnonzero(np.diff(places, prepend=places[0] + _ONE))
            values = _ONE << (ranges & _SEVEN)
            bits[places[first]] |= np.bitwise_or.reduceat(values, first).astype(np.uint8)
        bits.flush()
        return cls(hashes, bits)

    @classmethod
    def open(cls, folder: Path) -> Self:
        """What `gather` has left in a folder."""
        return cls(map_array(folder / HASHES, np.uint64), map_array(folder / FILTER, np.uint8))

    def find(self, values: npt.NDArray[np.uint64]) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        """Positions of the values that are there, and for each the place of the first hash that is equal."""
        ranges = values >> _shift(8 * len(self.bits))
        likely = np.flatnonzero(self.bits[ranges >> _THREE] >> (ranges & _SEVEN).astype(np.uint8) & np.uint8(1))
        wanted = values[likely]
        places = np.searchsorted(self.hashes, wanted)
        inside = np.minimum(places, len(self.hashes) - 1)
        found = self.hashes[inside] == wanted if len(self.hashes) else np.zeros(0, dtype=bool)
        return likely[found], places[found]


def map_array(path: Path, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """The array in a file, which may be empty, for reading."""
    return np.memmap(path, dtype, "r") if path.stat().st_size else np.empty(0, dtype)


def _shift(num_bits: int) -> np.uint64:
    return np.uint64(65 - num_bits.bit_length())
