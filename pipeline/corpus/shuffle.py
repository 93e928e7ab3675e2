"""Bring together what belongs together of a whole corpus, through files: the one tool of all steps that are global.

Tasks on shards write records, each in one of NUM_BUCKETS buckets. Parts are runs of neighbouring buckets that fit into
memory; tasks on parts read all records of theirs. All records of one key have to go into one bucket.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from pipeline.corpus.array_files import append_array

NUM_BUCKETS = 4096

PART_BYTES = 16_000_000
"""Records that a task on a part has in memory at once, but for a bucket that has more."""

RUN_BYTES = 8_000_000
"""Records that a writer gathers before it sorts them by bucket and writes them."""


class ShuffleWriter:
    """Writes a task's records, of one dtype, to `path`, and beside it, with the suffix `.bounds`, where each bucket
    lies in each run."""

    def __init__(self, path: Path, dtype: npt.DTypeLike) -> None:
        self._dtype = np.dtype(dtype)
        self._records = path.open("wb")
        self._bounds = _bounds_of(path).open("wb")
        self._pending: list[tuple[npt.NDArray[Any], npt.NDArray[np.uint16]]] = []
        self._pending_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        if kind is None:
            self._write_run()
        self._records.close()
        self._bounds.close()

    def write(self, records: npt.NDArray[Any], buckets: npt.NDArray[np.uint16]) -> None:
        """Append records. `buckets` has the bucket of each."""
        self._pending.append((records.astype(self._dtype, copy=False), buckets))
        self._pending_bytes += records.nbytes
        if self._pending_bytes >= RUN_BYTES:
            self._write_run()

    def _write_run(self) -> None:
        if not self._pending:
            return
        records, buckets = (np.concatenate(columns) for columns in zip(*self._pending, strict=True))
        self._pending, self._pending_bytes = [], 0
        # A stable sort of 16 bits is a radix sort, and keeps the order of the records of a bucket.
        append_array(self._records, records[np.argsort(buckets, kind="stable")])
        append_array(self._bounds, np.cumsum(np.bincount(buckets, minlength=NUM_BUCKETS), dtype=np.int64))


def buckets_of_hashes(hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint16]:
    """Buckets by the upper bits of 64: parts hold consecutive ranges of hashes."""
    return (hashes >> np.uint64(52)).astype(np.uint16)


def buckets_of_numbers(numbers: npt.NDArray[Any], total: int) -> npt.NDArray[np.uint16]:
    """Buckets of numbers below `total`: parts hold consecutive ranges of numbers."""
    return (numbers.astype(np.uint64) * np.uint64(NUM_BUCKETS) // np.uint64(max(1, total))).astype(np.uint16)


def part_ranges(paths: Sequence[Path], dtype: npt.DTypeLike, num_parts: int = 1) -> list[range]:
    """Runs of buckets that cover all that was written to `paths`, each of about PART_BYTES or one bucket; at least
    `num_parts` where there are so many records. No records give no range."""
    sizes = _bucket_sizes(paths)
    total = int(sizes.sum())
    if total == 0:
        return []
    wanted = max(num_parts, -(-total * np.dtype(dtype).itemsize // PART_BYTES))
    # A bucket belongs to the part that its middle lies in.
    middles = np.cumsum(sizes) - (sizes + 1) // 2
    part_of = np.minimum(middles * wanted // total, wanted - 1)
    edges = [0, *(np.flatnonzero(np.diff(part_of)) + 1).tolist(), NUM_BUCKETS]
    ranges = [range(start, stop) for start, stop in pairwise(edges)]
    return [one for one in ranges if sizes[one.start : one.stop].any()]


def part_sizes(paths: Sequence[Path], dtype: npt.DTypeLike, parts: Sequence[range]) -> list[int]:
    """Bytes of the records of each part."""
    sizes = _bucket_sizes(paths) * np.dtype(dtype).itemsize
    return [int(sizes[part.start : part.stop].sum()) for part in parts]


def read_part(paths: Sequence[Path], dtype: npt.DTypeLike, buckets: range) -> npt.NDArray[Any]:
    """The records of some buckets, in the order of `paths`, those of a path run by run; within a run by bucket and in
    the order in which they were written."""
    dtype = np.dtype(dtype)
    slices = []
    for path in paths:
        first = 0
        with path.open("rb") as file:
            for run in _read_bounds(path):
                start = int(run[buckets.start - 1]) if buckets.start else 0
                stop = int(run[buckets.stop - 1])
                if stop > start:
                    file.seek((first + start) * dtype.itemsize)
                    slices.append(np.fromfile(file, dtype, stop - start))
                first += int(run[-1])
    return np.concatenate(slices) if slices else np.empty(0, dtype)


def read_numbers(
    paths: Sequence[Path], dtype: npt.DTypeLike, field: str, numbers: range, total: int
) -> npt.NDArray[Any]:
    """The records whose `field` is among `numbers`, of those written by `buckets_of_numbers`, sorted by it."""
    if not numbers:
        return np.empty(0, dtype)
    first, last = buckets_of_numbers(np.array([numbers.start, numbers.stop - 1]), total).tolist()
    records = read_part(paths, dtype, range(first, last + 1))
    records = records[(records[field] >= numbers.start) & (records[field] < numbers.stop)]
    ordered: npt.NDArray[Any] = records[np.argsort(records[field], kind="stable")]
    return ordered


def _bucket_sizes(paths: Sequence[Path]) -> npt.NDArray[np.int64]:
    sizes = np.zeros(NUM_BUCKETS, dtype=np.int64)
    for path in paths:
        sizes += np.diff(_read_bounds(path), axis=1, prepend=0).sum(axis=0)
    return sizes


def _bounds_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.bounds")


def _read_bounds(path: Path) -> npt.NDArray[np.int64]:
    """For each run and bucket, how many records of the run come before the bucket's end."""
    place = _bounds_of(path)
    if place.stat().st_size == 0:
        return np.empty((0, NUM_BUCKETS), np.int64)
    return np.memmap(place, np.int64, "r").reshape(-1, NUM_BUCKETS)
