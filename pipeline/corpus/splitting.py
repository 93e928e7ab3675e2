"""Which split a document belongs to: a pure function of its text, or of the texts that it shares a cluster with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray

from pipeline.corpus.array_files import new_mapped_array
from pipeline.corpus.curate_config import CurateConfig
from pipeline.corpus.documents import SPLITS, SplitName
from pipeline.corpus.shingles import mix

LARGEST_PART = 0.25
"""Of the documents that a held-out split is to get: a cluster with more goes to training, so that no split is one
template."""

LABELS = "labels"
CHUNK_LABELS = 4_000_000
ANY = len(SPLITS)
"""The place of documents that no source sends to a split."""


def splits_of_hashes(values: NDArray[np.uint64], config: CurateConfig) -> NDArray[np.intp]:
    """The place in SPLITS of each text's split, by its hash (`repeats.text_hash`) as a fraction of its range.

    Equal texts always land together. Growing one fraction only moves documents out of `train`.
    """
    positions = values / 2.0**64
    train, validation, test = range(len(SPLITS))
    held_out = np.where(positions >= 1 - config.validation_fraction, validation, train)
    return np.where(positions < config.test_fraction, test, held_out)


@dataclass(frozen=True)
class Members:
    """Some documents of one source."""

    clusters: NDArray[np.uint32]
    hashes: NDArray[np.uint64]
    stays: NDArray[np.bool_]
    to_split: SplitName | None


@dataclass(frozen=True)
class Clusters:
    """What is decided for each cluster, in files of a folder, which processes share: arrays with a place for each
    document, that of the cluster's first."""

    folder: Path
    num_documents: int

    @property
    def labels(self) -> NDArray[np.uint32]:
        """For each document of the corpus the number of the first document of its cluster."""
        return self._mapped(LABELS, np.uint32)

    @property
    def sizes(self) -> NDArray[np.uint32]:
        """Documents that stay."""
        return self._mapped("sizes", np.uint32)

    @property
    def splits(self) -> NDArray[np.uint8]:
        """The place in SPLITS of the split that the documents go to which no source sends elsewhere."""
        return self._mapped("splits", np.uint8)

    @property
    def owners(self) -> NDArray[np.uint8]:
        """The place in SPLITS of the held-out split whose source has a document of the cluster; ANY where none has."""
        return self._mapped("owners", np.uint8)

    def decide(self, config: CurateConfig, members: Callable[[], Iterable[Members]]) -> None:
        """Decide for each cluster. `members` gives all documents of the corpus that passed, and is asked twice.

        A cluster goes where the text of one of its members would go alone: the one whose hash is the least when it is
        mixed, so that it depends neither on their order nor on their number. A source with `split: train` takes the
        cluster along.
        """
        sizes, splits, owners, marks, least = (
            new_mapped_array(self.folder / name, kind, max(1, self.num_documents))
            for name, kind in (
                ("sizes", np.uint32),
                ("splits", np.uint8),
                ("owners", np.uint8),
                ("marks", np.uint8),
                ("least", np.uint64),
            )
        )
        for labels in self._chunks():
            least[labels] = np.iinfo(np.uint64).max
        free = 0
        for some in members():
            np.minimum.at(least, some.clusters, mix(some.hashes))
            np.add.at(sizes, some.clusters[some.stays], np.uint32(1))
            if some.to_split is None:
                free += int(np.count_nonzero(some.stays))
            else:
                marks[some.clusters] |= np.uint8(1 << SPLITS.index(some.to_split))
        for some in members():
            chosen = mix(some.hashes) == least[some.clusters]
            splits[some.clusters[chosen]] = splits_of_hashes(some.hashes[chosen], config)
        shares = np.array([1.0, config.validation_fraction, config.test_fraction])
        train, validation, test = range(len(SPLITS))
        for labels in self._chunks():
            is_large = (sizes[labels] > 1) & (sizes[labels] > LARGEST_PART * free * shares[splits[labels]])
            has = [(marks[labels] >> place & 1).astype(bool) for place in range(len(SPLITS))]
            splits[labels] = np.where(is_large | has[train], train, splits[labels])
            owners[labels] = np.where(has[test], test, np.where(has[validation], validation, ANY))

    @property
    def summary(self) -> dict[str, int]:
        """How many clusters have several documents that stay, and how many documents those have."""
        clusters = documents = largest = 0
        sizes = self.sizes
        for labels in self._chunks():
            several = sizes[labels][sizes[labels] > 1]
            clusters += len(several)
            documents += int(several.sum())
            largest = max(largest, int(several.max(initial=0)))
        return {"clusters": clusters, "documents_in_clusters": documents, "largest_cluster": largest}

    def _mapped(self, name: str, kind: npt.DTypeLike) -> NDArray[Any]:
        return np.memmap(self.folder / name, kind, "r", shape=max(1, self.num_documents))

    def _chunks(self) -> Iterator[slice]:
        starts = range(0, self.num_documents, CHUNK_LABELS)
        return (slice(start, min(start + CHUNK_LABELS, self.num_documents)) for start in starts)
