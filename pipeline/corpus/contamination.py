"""Find documents that hold one of a test or validation source."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus.documents import SplitName

RUN_WORDS = 5
MOST = 0.8
"""Of a held-out document's runs of words: a text with so many of them holds it. Runs of 5 words and this part are those
by which Lee et al. 2022, "Deduplicating Training Data Makes Language Models Better", tell near-duplicates."""

FEWEST_RUNS = 8
"""A document with fewer runs is a phrase, which many texts hold: only its repetition counts."""


_WORD = re.compile(r"[^\W\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff]+|\w")  # a letter alone where no spaces are written
_FACTOR = np.uint64(0x9E3779B97F4A7C15)


def word_runs(text: str) -> NDArray[np.uint64]:
    """The hash of each different run of RUN_WORDS words, sorted. Case, punctuation and white space do not count."""
    words = np.array([zlib.crc32(word.encode()) for word in _WORD.findall(text.casefold())], dtype=np.uint64)
    number = max(0, len(words) - RUN_WORDS + 1)
    runs = np.zeros(number, dtype=np.uint64)
    for shift in range(RUN_WORDS):
        runs = runs * _FACTOR + words[shift : shift + number] + np.uint64(1)
    return np.unique(runs)


def write_runs(base: Path, runs: Iterable[NDArray[np.uint64]]) -> None:
    """Write the runs of a shard's documents to files, at a path without suffix."""
    found = [one if len(one) >= FEWEST_RUNS else one[:0] for one in runs]
    np.concatenate([np.empty(0, dtype=np.uint64), *found]).tofile(base.with_suffix(".runs"))
    np.array([len(one) for one in found], dtype=np.uint32).tofile(base.with_suffix(".lengths"))


@dataclass(frozen=True)
class HeldOutTexts:
    """The documents of the sources that go to a held-out split: runs of words with the documents that they are from.
    All of it lies in files, which processes share."""

    split: SplitName
    runs: NDArray[np.uint64]
    owners: NDArray[np.uint32]
    lengths: NDArray[np.uint32]

    @classmethod
    def write(cls, folder: Path, split: SplitName, shards: Iterable[Path]) -> None:
        """Gather what `write_runs` has written of shards."""
        bases = list(shards)
        runs, lengths = (
            np.concatenate([np.empty(0, dtype=dtype), *(np.fromfile(base.with_suffix(name), dtype) for base in bases)])
            for name, dtype in ((".runs", np.uint64), (".lengths", np.uint32))
        )
        owners = np.repeat(np.arange(len(lengths), dtype=np.uint32), lengths)
        order = np.argsort(runs, kind="stable")
        for name, values in (("runs", runs[order]), ("owners", owners[order]), ("lengths", lengths)):
            np.save(folder / f"{split}-{name}.npy", values)

    @classmethod
    def open(cls, folder: Path, split: SplitName) -> Self | None:
        """What `write` has left in a folder; None where there is nothing."""
        if not (folder / f"{split}-runs.npy").is_file():
            return None
        names = ("runs", "owners", "lengths")
        found: list[Any] = [np.load(folder / f"{split}-{name}.npy", mmap_mode="r") for name in names]
        return cls(split, *found)

    def is_held_by(self, text: str) -> bool:
        """Whether a text holds MOST of one of the documents."""
        wanted = word_runs(text)
        first, last = (np.searchsorted(self.runs, wanted, side) for side in ("left", "right"))
        ranges = [self.owners[start:stop] for start, stop in zip(first, last, strict=True) if stop > start]
        if not ranges:
            return False
        owners, counts = np.unique(np.concatenate(ranges), return_counts=True)
        return bool((counts >= MOST * self.lengths[owners]).any())
