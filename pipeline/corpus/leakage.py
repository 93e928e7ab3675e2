"""How much of the held-out documents stands in training documents, by runs of words that both have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus.corpus_jobs import Jobs
from pipeline.corpus.documents import SPLITS
from pipeline.corpus.shards import Tally
from pipeline.corpus.shingles import Words, ngrams
from pipeline.corpus.shuffle import ShuffleWriter, buckets_of_hashes, buckets_of_numbers, read_part
from pipeline.executors.jobs import Report

RUN_WORDS = 8
FEWEST_RUNS = 4
"""Documents with fewer runs in the sample are not judged."""

OVERLAPPING = 0.5
"""Of a document's runs in the sample: one with so many in training overlaps with it."""

WHOLE_BYTES = 32_000_000
"""Of a corpus with more text only a part of all runs is compared: every second, fourth, eighth or sixteenth."""

MOST_LEFT_OUT = 16
CHUNK = 4_000_000

RUN = np.dtype([("hash", "<u8"), ("document", "<u4")])
FOUND = np.dtype([("document", "<u4"), ("runs", "<u4"), ("in_train", "<u4")])
RUNS, COUNTS = "leakage_runs", "leakage_counts"

TRAIN = SPLITS.index("train")
NO_SPLIT = 255
"""The place in SPLITS, in files of places, of a document that is in no split."""


def keep_one_in(num_bytes: int) -> int:
    """Of how many runs one is compared, of a corpus with so much text."""
    return min(MOST_LEFT_OUT, 1 << max(0, -(-num_bytes // WHOLE_BYTES) - 1).bit_length())


class SampleWriter:
    """Writes a sample of the runs of words of documents into a task's folder. A run's hash decides, so that it is in
    the sample of each document that has it or of none."""

    def __init__(self, folder: Path, one_in: int) -> None:
        self._writer = ShuffleWriter(folder / RUNS, RUN)
        self._mask = np.uint64(one_in - 1)

    def __enter__(self) -> Self:
        self._writer.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self._writer.__exit__(kind, error, trace)

    def write(self, words: Words, numbers: NDArray[np.uint32]) -> None:
        """Append documents, of which these are the words and the numbers in the corpus."""
        hashes, texts = ngrams(words, RUN_WORDS)
        kept = hashes & self._mask == 0
        runs = np.empty(int(np.count_nonzero(kept)), RUN)
        runs["hash"], runs["document"] = hashes[kept], numbers[texts[kept]]
        self._writer.write(runs, buckets_of_hashes(runs["hash"]))


def measure_leakage(jobs: Jobs, samples: Sequence[Path], places: Path) -> dict[str, dict[str, Any]]:
    """Compare the held-out documents with those of training, by the samples that each SampleWriter has left in its
    folder. `places` is a file with a byte a document, by its number: the place of its split in SPLITS, or NO_SPLIT.

    Gives for each held-out split its documents, how many were compared, how many of those overlap with training and
    which part that is, and which part of all their runs stands in training.
    """
    paths = [one / RUNS for one in samples]
    compared = jobs.on_parts(find_in_train, (paths, places), paths, RUN, "comparing splits")
    paths = [folder / COUNTS for folder, _ in compared]
    counted = jobs.on_parts(count_overlapping, (paths, places), paths, FOUND, "measuring leakage")
    tally = Tally.total(counts for _, counts in counted)
    sizes = _sizes(places)
    return {split: _figures(sizes[split], tally.of(split)) for split in SPLITS if split != "train" and sizes[split]}


def find_in_train(shared: tuple[Sequence[Path], Path], buckets: range, output: Path, report: Report) -> None:
    """Write for each held-out document that has runs of some buckets how many different ones, and how many of them a
    training document has, too."""
    paths, places = shared
    runs = read_part(paths, RUN, buckets)
    split_of = np.memmap(places, np.uint8, "r")
    runs = runs[np.argsort(runs["hash"], kind="stable")]  # which leaves a document's own repeats side by side
    splits = split_of[runs["document"]]
    is_first = np.ones(len(runs), dtype=bool)
    is_first[1:] = runs["hash"][1:] != runs["hash"][:-1]
    group = np.cumsum(is_first) - 1
    in_train = np.logical_or.reduceat(splits == TRAIN, np.flatnonzero(is_first))[group]
    is_new = is_first.copy()
    is_new[1:] |= runs["document"][1:] != runs["document"][:-1]
    chosen = is_new & (splits != TRAIN) & (splits != NO_SPLIT)
    documents, owners = np.unique(runs["document"][chosen], return_inverse=True)
    found = np.empty(len(documents), FOUND)
    found["document"], found["runs"] = documents, np.bincount(owners, minlength=len(documents))
    found["in_train"] = np.bincount(owners[in_train[chosen]], minlength=len(documents))
    with ShuffleWriter(output / COUNTS, FOUND) as writer:
        writer.write(found, buckets_of_numbers(documents, len(split_of)))


def count_overlapping(
    shared: tuple[Sequence[Path], Path], buckets: range, output: Path, report: Report
) -> Mapping[str, Counter[str]]:
    """Add up what was found of each document, and count by split."""
    paths, places = shared
    found = read_part(paths, FOUND, buckets)
    documents, owners = np.unique(found["document"], return_inverse=True)
    runs, in_train = (np.bincount(owners, found[name], len(documents)) for name in ("runs", "in_train"))
    splits = np.memmap(places, np.uint8, "r")[documents]
    compared = runs >= FEWEST_RUNS
    tally = Tally()
    for place, split in enumerate(SPLITS):
        chosen = compared & (splits == place)
        tally.add(split, "compared", int(np.count_nonzero(chosen)))
        tally.add(split, "overlapping", int(np.count_nonzero(in_train[chosen] >= OVERLAPPING * runs[chosen])))
        tally.add(split, "runs", int(runs[chosen].sum()))
        tally.add(split, "in_train", int(in_train[chosen].sum()))
    return tally.counts


def _sizes(places: Path) -> dict[str, int]:
    """Documents of each split."""
    totals = np.zeros(NO_SPLIT + 1, np.int64)
    with places.open("rb") as file:
        while len(some := np.fromfile(file, np.uint8, CHUNK)):
            totals += np.bincount(some, minlength=len(totals))
    return dict(zip(SPLITS, totals.tolist(), strict=False))


def _figures(documents: int, found: Mapping[str, int]) -> dict[str, Any]:
    compared, overlapping = found.get("compared", 0), found.get("overlapping", 0)
    return {
        "documents": documents,
        "compared": compared,
        "overlapping": overlapping,
        "share": round(overlapping / max(1, compared), 6),
        "runs_in_train": round(found.get("in_train", 0) / max(1, found.get("runs", 0)), 6),
    }
