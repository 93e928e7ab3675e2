"""Find documents that are alike among all of a corpus: MinHash signatures, of which some rows have to be equal.

A band is a run of rows of the signature. Documents with an equal band are compared, not each with each but each with
the first and with the one before it, so that a thousand copies make two thousand pairs (Leskovec, Rajaraman and Ullman,
"Mining of Massive Datasets", section 3.4).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus.array_files import append_array
from pipeline.corpus.near_duplicates_config import NearDuplicates
from pipeline.corpus.repeats import LINK
from pipeline.corpus.shingles import mix
from pipeline.corpus.shuffle import NUM_BUCKETS, ShuffleWriter, buckets_of_numbers, read_numbers, read_part
from pipeline.executors.jobs import Report

ENOUGH = 0.98
"""Of documents a tenth more alike than asked for, the part that is to be found."""

CHUNK = 32_768
"""Signatures or pairs worked on at once; some kilobytes each."""

EDGE = np.dtype([*((name, LINK[name]) for name in LINK.names or ()), ("similarity", "<f4")])
"""Two documents and how alike they are."""

SIGNATURES, SIGNED, BANDS, PAIRS, EDGES = "signatures", "signed", "bands", "pairs", "edges"
"""How files are called in the folders of tasks."""


@dataclass(frozen=True)
class SignedShard:
    """The signatures of a shard's documents, in a folder: `signatures`, a row a document, and `signed`, the positions
    in the shard of those whose row means something."""

    folder: Path
    first: int
    """Number in the corpus of the shard's first document."""
    num_documents: int

    def signed(self) -> NDArray[np.uint32]:
        """Positions in the shard of the documents that have a signature."""
        return np.fromfile(self.folder / SIGNED, np.uint32)

    def rows(self, positions: NDArray[np.uint32], num_hashes: int) -> NDArray[np.uint16]:
        """The signatures of documents, of which no more than these are in memory."""
        every = np.memmap(self.folder / SIGNATURES, np.uint16, "r").reshape(-1, num_hashes)
        return np.asarray(every[positions])


@dataclass(frozen=True)
class Comparison:
    """What the tasks that find documents alike have in common."""

    config: NearDuplicates
    rows: int
    """Numbers of a signature in a band."""
    shards: Sequence[SignedShard]
    num_documents: int
    """In the whole corpus; their numbers are below it."""
    repeats: Sequence[Path] = ()
    """Links of documents that repeat an earlier one: those take no part."""
    found: Sequence[Path] = ()
    """Files of the job before."""

    @property
    def num_bands(self) -> int:
        """Bands of a signature."""
        return self.config.num_hashes // self.rows

    @property
    def recall(self) -> float:
        """Of pairs a tenth more alike than asked for, the part that is compared."""
        return round(chance_to_meet(min(1.0, self.config.lowest + 0.1), self.rows, self.config.num_hashes), 4)


def rows_of_bands(config: NearDuplicates, num_documents: int) -> int:
    """As many rows as still find ENOUGH, since fewer compare more documents that are not alike. In large corpora, where
    those would be too many, more rows are taken, which find less."""
    similarity = min(1.0, config.lowest + 0.1)
    fitting = [n for n in range(1, 33) if chance_to_meet(similarity, n, config.num_hashes) >= ENOUGH]
    least = 5 if num_documents > 5_000_000 else 4 if num_documents > 200_000 else 2
    return max([least, *fitting])


def chance_to_meet(similarity: float, rows: int, num_hashes: int) -> float:
    """That two documents so alike have an equal band."""
    return float(1 - (1 - similarity**rows) ** (num_hashes // rows))


def write_bands(shared: Comparison, shard: SignedShard, output: Path, report: Report) -> None:
    """Write for each band of each document the upper 32 bits of its hash, and below them the document's number. Buckets
    are ranges of hashes of one band."""
    documents = range(shard.first, shard.first + shard.num_documents)
    repeated = read_numbers(shared.repeats, LINK, "document", documents, shared.num_documents)["document"]
    signed = shard.signed()
    taking_part = signed[~np.isin(signed + np.uint32(shard.first), repeated)]
    buckets_each = NUM_BUCKETS // shared.num_bands
    with ShuffleWriter(output / BANDS, np.uint64) as writer:
        for start in range(0, len(taking_part), CHUNK):
            chosen = taking_part[start : start + CHUNK]
            signatures = shard.rows(chosen, shared.config.num_hashes)
            owners = chosen.astype(np.uint64) + np.uint64(shard.first)
            for band in range(shared.num_bands):
                hashes = _band_hashes(signatures[:, band * shared.rows : (band + 1) * shared.rows]) >> np.uint64(32)
                buckets = (hashes * np.uint64(buckets_each) >> np.uint64(32)).astype(np.uint16)
                writer.write(hashes << np.uint64(32) | owners, buckets + np.uint16(band * buckets_each))


def _band_hashes(rows: NDArray[np.uint16]) -> NDArray[np.uint64]:
    hashes = rows[:, 0].astype(np.uint64)
    for number in range(1, rows.shape[1]):
        if number % 4 == 0:
            hashes = mix(hashes)
        hashes = hashes << np.uint64(16) ^ hashes >> np.uint64(48) ^ rows[:, number]
    return mix(hashes)


def pair_up(shared: Comparison, buckets: range, output: Path, report: Report) -> None:
    """Pair each document of an equal band with the first and with the one before it: the later one's number in the
    upper 32 bits, the earlier one's in the lower. They are shuffled by the later one."""
    records = np.sort(read_part(shared.found, np.uint64, buckets))
    is_first = np.ones(len(records), dtype=bool)
    is_first[1:] = records[1:] >> np.uint64(32) != records[:-1] >> np.uint64(32)
    later = np.flatnonzero(~is_first)
    firsts = np.flatnonzero(is_first)[np.cumsum(is_first)[later] - 1]
    numbers = records & np.uint64(0xFFFFFFFF)
    behind = later - 1 != firsts  # whose one before is not the first
    others = np.concatenate([numbers[firsts], numbers[later[behind] - 1]])
    those = np.concatenate([numbers[later], numbers[later[behind]]])
    pairs = distinct((those << np.uint64(32) | others)[those != others])
    with ShuffleWriter(output / PAIRS, np.uint64) as writer:
        writer.write(pairs, buckets_of_numbers(pairs >> np.uint64(32), shared.num_documents))


def distinct(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The different values, in order. `np.unique` puts them into a hash table first, which takes ten times as long for
    pairs of numbers."""
    ordered = np.sort(values)
    is_new = np.ones(len(ordered), dtype=bool)
    is_new[1:] = ordered[1:] != ordered[:-1]
    return ordered[is_new]


def compare_pairs(shared: Comparison, buckets: range, output: Path, report: Report) -> None:
    """Write the pairs that are alike enough to matter, sorted by the later document."""
    pairs = distinct(read_part(shared.found, np.uint64, buckets))
    with (output / EDGES).open("wb") as file:
        for start in range(0, len(pairs), CHUNK):
            chunk = pairs[start : start + CHUNK]
            edges = np.empty(len(chunk), EDGE)
            edges["document"], edges["earlier"] = chunk >> np.uint64(32), chunk & np.uint64(0xFFFFFFFF)
            numbers, places = np.unique([edges["document"], edges["earlier"]], return_inverse=True)
            signatures = _signatures_of(shared, numbers)
            later, earlier = places.reshape(2, -1)
            equal = np.count_nonzero(signatures[later] == signatures[earlier], axis=1)
            edges["similarity"] = equal / shared.config.num_hashes
            append_array(file, edges[edges["similarity"] >= np.float32(shared.config.lowest)])
            report(chunk.nbytes)


def _signatures_of(shared: Comparison, numbers: NDArray[np.uint32]) -> NDArray[np.uint16]:
    """The signatures of documents, given by their numbers in ascending order."""
    found = np.empty((len(numbers), shared.config.num_hashes), np.uint16)
    for shard in shared.shards:
        start, stop = np.searchsorted(numbers, [shard.first, shard.first + shard.num_documents])
        if stop > start:
            found[start:stop] = shard.rows(numbers[start:stop] - np.uint32(shard.first), shared.config.num_hashes)
    return found


def read_edges(paths: Sequence[Path], at_least: float) -> Iterator[tuple[NDArray[np.uint32], NDArray[np.uint32]]]:
    """(documents, earlier ones) of pairs that are at least so alike, sorted by document; all of a document's in one
    chunk."""
    for path in paths:
        edges = np.fromfile(path, EDGE)
        edges = edges[edges["similarity"] >= np.float32(at_least)]
        yield edges["document"], edges["earlier"]


def read_links(paths: Sequence[Path]) -> Iterator[tuple[NDArray[np.uint32], NDArray[np.uint32]]]:
    """(documents, earlier ones) of links."""
    for path in paths:
        links = np.fromfile(path, LINK)
        yield links["document"], links["earlier"]
