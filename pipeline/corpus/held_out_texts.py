"""Find training documents that hold a document of a test or validation source."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus.array_files import append_array, new_mapped_array, write_array
from pipeline.corpus.corpus_jobs import Jobs
from pipeline.corpus.hash_index import HashIndex, map_array
from pipeline.corpus.shards import join_files
from pipeline.corpus.shingles import Words, ngrams
from pipeline.corpus.shuffle import ShuffleWriter, buckets_of_hashes, read_part
from pipeline.executors.jobs import Report

RUN_WORDS = 5
MOST = 0.8
"""Of a held-out document's runs of words: a text with so many of them holds it. Runs of 5 words and this part are those
by which Lee et al. 2022, "Deduplicating Training Data Makes Language Models Better", tell near-duplicates."""

FEWEST_RUNS = 8
"""A document with fewer runs is a phrase, which many texts hold: only its repetition counts."""

MOST_OWNERS = 100
"""Of a run that more documents have, such as a footer, only those of the first so many count."""

PAIRS = 4_000_000
"""Pairs of a text and a held-out document that are counted at once."""

_TEXT = np.int64(1 << 40)

RUN = np.dtype([("hash", "<u8"), ("document", "<u4")])
LENGTH = np.dtype([("document", "<u4"), ("runs", "<u4")])
RUNS, LENGTHS, OWNERS, UNCOUNTED = "held_out_runs", "held_out_lengths", "owners", "uncounted"


class HeldOutWriter:
    """Writes the runs of words of a held-out source's documents into a task's folder."""

    def __init__(self, folder: Path) -> None:
        self._stack = ExitStack()
        self._runs = self._stack.enter_context(ShuffleWriter(folder / RUNS, RUN))
        self._lengths = self._stack.enter_context((folder / LENGTHS).open("wb"))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def write(self, words: Words, numbers: NDArray[np.uint32]) -> None:
        """Append documents, of which these are the words and the numbers in the corpus."""
        hashes, owners = distinct_runs(words)
        counts = np.bincount(owners, minlength=words.num_documents)
        long_enough = counts >= FEWEST_RUNS
        kept = long_enough[owners]
        runs = np.empty(int(np.count_nonzero(kept)), RUN)
        runs["hash"], runs["document"] = hashes[kept], numbers[owners[kept]]
        self._runs.write(runs, buckets_of_hashes(runs["hash"]))
        lengths = np.empty(int(np.count_nonzero(long_enough)), LENGTH)
        lengths["document"], lengths["runs"] = numbers[long_enough], counts[long_enough]
        append_array(self._lengths, lengths)


def distinct_runs(words: Words) -> tuple[NDArray[np.uint64], NDArray[np.int32]]:
    """The different runs of RUN_WORDS words of each text, sorted by text, and the text of each."""
    runs = ngrams(words, RUN_WORDS)
    order = np.lexsort((runs.hashes, runs.document))
    hashes, owners = runs.hashes[order], runs.document[order]
    is_new = np.ones(len(hashes), dtype=bool)
    is_new[1:] = (hashes[1:] != hashes[:-1]) | (owners[1:] != owners[:-1])
    return hashes[is_new], owners[is_new]


def sort_held_out_runs(paths: Sequence[Path], buckets: range, output: Path, report: Report) -> None:
    """Write the runs of some buckets sorted, with the document that has each, and the documents of which a run does not
    count since too many have it."""
    runs = read_part(paths, RUN, buckets)
    runs = runs[np.argsort(runs["hash"], kind="stable")]
    is_first = np.ones(len(runs), dtype=bool)
    is_first[1:] = runs["hash"][1:] != runs["hash"][:-1]
    rank = np.arange(len(runs)) - np.flatnonzero(is_first)[np.cumsum(is_first) - 1]
    counts = rank < MOST_OWNERS
    write_array(output / RUNS, runs["hash"][counts])
    write_array(output / OWNERS, runs["document"][counts])
    write_array(output / UNCOUNTED, runs["document"][~counts])


@dataclass(frozen=True)
class HeldOutTexts:
    """The runs of words of all documents of held-out sources, and the documents that they are from. All of it lies in
    files, which processes share."""

    runs: HashIndex
    owners: NDArray[np.uint32]
    lengths: NDArray[np.uint32]
    """Number of different runs of each document; 0 of one that is not looked for."""

    @classmethod
    def gather(cls, jobs: Jobs, folders: Sequence[Path], num_documents: int, target: Path) -> None:
        """Sort what each HeldOutWriter has written to its folder, into another. Numbers of documents ascend through the
        folders, and are below `num_documents`."""
        paths = [folder / RUNS for folder in folders]
        done = jobs.on_parts(sort_held_out_runs, paths, paths, RUN, "sorting held-out texts")
        sorted_parts = [folder for folder, _ in done]
        target.mkdir()
        HashIndex.gather([folder / RUNS for folder in sorted_parts], target)
        join_files([folder / OWNERS for folder in sorted_parts], target / OWNERS)
        lengths = new_mapped_array(target / LENGTHS, np.uint32, max(1, num_documents))
        for folder in folders:
            found = np.fromfile(folder / LENGTHS, LENGTH)
            lengths[found["document"]] = found["runs"]
        for folder in sorted_parts:
            np.subtract.at(lengths, np.fromfile(folder / UNCOUNTED, np.uint32), np.uint32(1))
        lengths[lengths < FEWEST_RUNS] = 0
        lengths.flush()

    @classmethod
    def open(cls, folder: Path) -> Self | None:
        """What `gather` has left in a folder; None where there is nothing."""
        if not folder.is_dir():
            return None
        owners, lengths = (map_array(folder / name, np.uint32) for name in (OWNERS, LENGTHS))
        return cls(HashIndex.open(folder), owners, lengths)

    def held_by(self, words: Words) -> NDArray[np.int64]:
        """For each text the number of the first document of which it holds MOST; -1 where it holds none."""
        runs = ngrams(words, RUN_WORDS)
        which, first = self.runs.find(runs.hashes)
        texts, first = np.divmod(np.unique(runs.document[which] * _TEXT + first), _TEXT)
        counts = np.searchsorted(self.runs.hashes, self.runs.hashes[first], "right") - first
        pairs = np.empty(0, np.uint64)
        numbers = np.empty(0, np.int64)
        for some in _chunks(counts):
            each = counts[some]
            within = np.arange(int(each.sum())) - np.repeat(np.cumsum(each) - each, each)
            owners = self.owners[np.repeat(first[some], each) + within]
            new = np.repeat(texts[some].astype(np.uint64), each) << np.uint64(32) | owners
            new, new_numbers = np.unique(new, return_counts=True)
            pairs, places = np.unique(np.concatenate([pairs, new]), return_inverse=True)
            numbers = np.bincount(places, np.concatenate([numbers, new_numbers]), len(pairs)).astype(np.int64)
        lengths = self.lengths[pairs & np.uint64(0xFFFFFFFF)]
        pairs = pairs[(lengths > 0) & (numbers >= MOST * lengths)]
        found = np.full(words.num_documents, -1, dtype=np.int64)
        texts_held, at = np.unique(pairs >> np.uint64(32), return_index=True)
        found[texts_held.astype(np.intp)] = (pairs[at] & np.uint64(0xFFFFFFFF)).astype(np.int64)
        return found


def _chunks(counts: NDArray[np.intp]) -> list[slice]:
    """Slices whose counts add up to about PAIRS."""
    until = np.cumsum(counts)
    edges = np.searchsorted(until, range(PAIRS, int(until[-1]), PAIRS)).tolist() if len(until) else []
    return [slice(start, stop) for start, stop in pairwise(sorted({0, *edges, len(counts)}))]
