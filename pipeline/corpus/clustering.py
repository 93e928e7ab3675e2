"""Jobs that find what belongs together in a scanned corpus: repeats, groups, and documents that are alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.corpus.array_files import new_mapped_array
from pipeline.corpus.components import CHUNK_NODES, GOES, thin_out, unite
from pipeline.corpus.corpus_jobs import Jobs
from pipeline.corpus.curate_config import CurateConfig
from pipeline.corpus.near_duplicates import (
    BANDS,
    EDGES,
    PAIRS,
    Comparison,
    SignedShard,
    compare_pairs,
    pair_up,
    read_edges,
    read_links,
    rows_of_bands,
    write_bands,
)
from pipeline.corpus.near_duplicates_config import NearDuplicates
from pipeline.corpus.repeats import KEYED, LINK, LINKS, link_repeats
from pipeline.corpus.scanning import GROUPS, TEXTS, Shard, read_passed
from pipeline.corpus.shuffle import read_numbers
from pipeline.corpus.splitting import LABELS, Clusters, Members
from pipeline.errors import StorageError

MOST_DOCUMENTS = 2**32

STATES = "states"
"""The file that says of each document whether it GOES."""


@dataclass(frozen=True)
class Related:
    """Which documents of a corpus belong together; all of it lies in files."""

    num_documents: int
    repeats: list[Path]
    """Links of documents whose text an earlier one has."""
    groups: list[Path]
    """Links of documents whose group an earlier one has."""
    edges: list[Path]
    """Pairs of documents that are alike."""
    compared: Comparison | None

    @classmethod
    def find(cls, jobs: Jobs, config: CurateConfig, shards: Sequence[Shard], folders: Sequence[Path]) -> Related:
        """`folders` has what the scan has left of each shard."""
        num_documents = sum(shard.num_documents for shard in shards)
        if num_documents > MOST_DOCUMENTS:
            raise StorageError(f"curate: {num_documents:,} documents, of at most {MOST_DOCUMENTS:,}; make several runs")

        def linked(name: str, label: str) -> list[Path]:
            paths = [folder / name for folder in folders]
            found = jobs.on_parts(link_repeats, (paths, num_documents), paths, KEYED, label)
            return [folder / LINKS for folder, _ in found]

        repeats, groups = linked(TEXTS, "finding repeats"), linked(GROUPS, "finding groups")
        alone = cls(num_documents, repeats, groups, [], None)
        if config.likeness is None:
            return alone
        return alone._compare(jobs, config.likeness, shards, folders)

    def _compare(self, jobs: Jobs, config: NearDuplicates, shards: Sequence[Shard], folders: Sequence[Path]) -> Related:
        pairs = zip(shards, folders, strict=True)
        signed = [SignedShard(folder, shard.first, shard.num_documents) for shard, folder in pairs]
        rows = rows_of_bands(config, self.num_documents)
        comparison = Comparison(config, rows, signed, self.num_documents, self.repeats)
        sizes = [shard.num_bytes for shard in shards]
        found = [
            folder / BANDS for folder, _ in jobs.on_shards(write_bands, comparison, signed, sizes, "banding signatures")
        ]
        for work, name, label in ((pair_up, PAIRS, "pairing documents"), (compare_pairs, EDGES, "comparing documents")):
            done = jobs.on_parts(work, replace(comparison, found=found), found, np.uint64, label)
            for path in found:
                path.unlink()  # bands and pairs take as much disk as short texts
            found = [folder / name for folder, _ in done]
        return replace(self, edges=found, compared=comparison)

    def decide(self, folder: Path, config: CurateConfig, shards: Sequence[Shard], folders: Sequence[Path]) -> Clusters:
        """Decide, in files of a folder, which documents go because they are like an earlier one that stays, which
        belong together, and where they go to."""
        folder.mkdir()
        near, shape = config.likeness, max(1, self.num_documents)
        states = new_mapped_array(folder / STATES, np.uint8, shape)
        labels = new_mapped_array(folder / LABELS, np.uint32, shape)
        for start in range(0, shape, CHUNK_NODES):
            labels[start : start + CHUNK_NODES] = np.arange(start, min(start + CHUNK_NODES, shape))
        unite(labels, read_links([*self.repeats, *self.groups]))
        if near is not None and near.drop_at is not None:
            thin_out(states, read_edges(self.edges, near.drop_at))
        if near is not None and near.same_split_at is not None:
            unite(labels, read_edges(self.edges, near.same_split_at))

        def members() -> Iterator[Members]:
            for shard, scanned in zip(shards, folders, strict=True):
                positions, hashes = read_passed(scanned)
                numbers = positions + np.uint32(shard.first)
                stays = states[numbers] != GOES
                if config.deduplicate == "exact":
                    stays &= ~np.isin(numbers, self.repeated(shard)["document"])
                yield Members(labels[numbers], hashes, stays, shard.to_split)

        clusters = Clusters(folder, self.num_documents)
        clusters.decide(config, members)
        return clusters

    def repeated(self, shard: Shard) -> npt.NDArray[Any]:
        """Links of the documents of a shard whose text an earlier one has."""
        return read_numbers(self.repeats, LINK, "document", shard.documents, self.num_documents)
