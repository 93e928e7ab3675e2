"""Exact deduplication with flat memory: sorted hashes on disk, joined one range of hashes at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

PART_HASHES = 8_000_000
"""Hashes joined at once; about 40 bytes of memory each."""

Hashes = npt.NDArray[np.uint64]


def text_hash(text: str) -> int:
    """64 bits of a text's content, equal for texts that differ only in case and white space."""
    folded = " ".join(text.split()).casefold()
    return int.from_bytes(hashlib.blake2b(folded.encode(), digest_size=8).digest(), "little")


class ShardHashes:
    """The hashes of a shard's documents, on disk in sorted order, and those that were found to repeat.

    `base` is a path without suffix; `.hashes` (uint64), `.order` and `.repeats` (uint32) are files beside it.
    """

    def __init__(self, base: Path) -> None:
        self._hashes = base.with_suffix(".hashes")
        self._order = base.with_suffix(".order")
        self._repeats = base.with_suffix(".repeats")

    def write(self, hashes: Sequence[int]) -> None:
        """Store the hashes of documents, given in corpus order."""
        array = np.array(hashes, dtype=np.uint64)
        order = np.argsort(array, kind="stable").astype(np.uint32)
        array[order].tofile(self._hashes)
        order.tofile(self._order)
        self._repeats.touch()

    def read(self) -> Hashes:
        """The hashes as they were written, in corpus order."""
        hashes = self.read_sorted()
        unsorted = np.empty_like(hashes)
        unsorted[np.fromfile(self._order, np.uint32)] = hashes
        return unsorted

    def read_sorted(self, start: int = 0, stop: int | None = None) -> Hashes:
        """A range of the sorted hashes."""
        return np.fromfile(self._hashes, np.uint64, count=-1 if stop is None else stop - start, offset=8 * start)

    def add_repeats(self, start: int, stop: int, repeated: npt.NDArray[np.intp]) -> None:
        """Mark documents as repeats, given by their places in the range of sorted hashes."""
        order = np.fromfile(self._order, np.uint32, count=stop - start, offset=4 * start)
        with self._repeats.open("ab") as file:
            order[repeated].tofile(file)

    def read_repeats(self) -> npt.NDArray[np.uint32]:
        """Positions, in corpus order, of the documents that repeat an earlier one."""
        return np.fromfile(self._repeats, np.uint32)


def find_repeats(shards: list[ShardHashes]) -> None:
    """Mark in each shard, given in corpus order, the documents whose hash stood earlier in the corpus.

    Memory is bounded by PART_HASHES, not by the corpus. Among n different texts the chance that any two collide is
    about n**2 / 2**65: one in 40 for a thousand million documents.
    """
    num_hashes = sum(len(shard.read_sorted()) for shard in shards)
    num_parts = max(1, -(-num_hashes // PART_HASHES))
    edges = np.array([(part << 64) // num_parts for part in range(1, num_parts)], dtype=np.uint64)
    cuts = []
    for shard in shards:
        hashes = shard.read_sorted()
        cuts.append([0, *np.searchsorted(hashes, edges).tolist(), len(hashes)])
    for part in range(num_parts):
        ranges = [(cut[part], cut[part + 1]) for cut in cuts]
        joined = np.concatenate([shard.read_sorted(*at) for shard, at in zip(shards, ranges, strict=True)])
        # A stable sort keeps corpus order among equals, so that the first occurrence stays.
        order = np.argsort(joined, kind="stable")
        in_order = joined[order]
        repeated = np.sort(order[1:][in_order[1:] == in_order[:-1]])
        bounds = np.cumsum([0, *(stop - start for start, stop in ranges)])
        slices = pairwise(np.searchsorted(repeated, bounds))
        for shard, at, first, (low, high) in zip(shards, ranges, bounds[:-1], slices, strict=True):
            if high > low:
                shard.add_repeats(*at, repeated[low:high] - first)
