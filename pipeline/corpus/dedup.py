"""Exact deduplication with flat memory: sorted hashes on disk, joined one range of hashes at a time."""

from __future__ import annotations

import hashlib
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

PART_HASHES = 4_000_000
"""Hashes joined in memory at once, 16 bytes each."""

_SPACE = re.compile(r"\s+")
_Hashes = npt.NDArray[np.uint64]


def text_hash(text: str) -> int:
    """64 bits of a text's content, equal for texts that differ only in case and white space."""
    folded = _SPACE.sub(" ", text.strip()).casefold()
    return int.from_bytes(hashlib.blake2b(folded.encode(), digest_size=8).digest(), "little")


def find_repeats(hashes: list[Path], folder: Path) -> list[Path]:
    """Which documents repeat an earlier one.

    `hashes` holds one .npy file a shard, uint64 of shape (documents,), in corpus order; a file of the same name in
    `folder` gets a bool array of that shape, true where the hash stood earlier in the corpus. The chance that two
    different texts among n collide is about n**2 / 2**65.
    """
    loaded: list[_Hashes] = [np.load(path, mmap_mode="r") for path in hashes]
    lengths = [len(array) for array in loaded]
    repeats = [np.zeros(length, dtype=bool) for length in lengths]
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    num_parts = max(1, -(-int(starts[-1]) // PART_HASHES))
    edges = [(part << 64) // num_parts for part in range(num_parts + 1)]
    for low, high in pairwise(edges):
        positions, values = [], []
        for start, array in zip(starts[:-1], loaded, strict=True):
            inside = np.flatnonzero((array >= np.uint64(low)) & (array <= np.uint64(high - 1)))
            positions.append(inside + start)
            values.append(array[inside])
        joined = np.concatenate(values)
        # A stable sort keeps corpus order among equals, so that the first occurrence wins.
        order = np.argsort(joined, kind="stable")
        later = np.flatnonzero(joined[order][1:] == joined[order][:-1]) + 1
        repeated = np.concatenate(positions)[order[later]]
        for shard, position in zip(np.searchsorted(starts, repeated, side="right") - 1, repeated, strict=True):
            repeats[shard][position - starts[shard]] = True
    written = []
    for path, flags in zip(hashes, repeats, strict=True):
        written.append(folder / path.name)
        np.save(written[-1], flags)
    return written
