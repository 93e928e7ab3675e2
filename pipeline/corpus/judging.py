"""What is to become of each document of a shard, by all that was found out about the corpus."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus.clustering import STATES, Related
from pipeline.corpus.components import GOES
from pipeline.corpus.curate_config import CurateConfig
from pipeline.corpus.documents import SPLITS
from pipeline.corpus.drop_verdicts import Verdicts
from pipeline.corpus.scanning import HELD_OUT, VERDICTS, Shard, in_source, read_passed
from pipeline.corpus.splitting import ANY, Clusters

REPEATS = "repeats an earlier document"
NEAR = "near-duplicate of an earlier document"


@dataclass(frozen=True)
class Decisions:
    """What was decided for the whole corpus."""

    config: CurateConfig
    related: Related
    clusters: Clusters
    held_out: tuple[int, int]
    """Numbers of documents of sources that go to the splits of HELD_OUT; those documents come first."""

    def judge(self, shard: Shard, scanned: Path) -> tuple[Verdicts, NDArray[np.uint8]]:
        """The verdict on each document of a shard, and the place in SPLITS of the split of those that stay."""
        verdicts = Verdicts.read(scanned / VERDICTS)
        positions, _ = read_passed(scanned)
        numbers = positions + np.uint32(shard.first)
        clusters = self.clusters.labels[numbers]
        owners = self.clusters.owners[clusters]
        own = ANY if shard.to_split is None else SPLITS.index(shard.to_split)
        splits = np.zeros(shard.num_documents, np.uint8)
        splits[positions] = self.clusters.splits[clusters] if shard.to_split is None else own
        states = np.memmap(self.clusters.folder / STATES, np.uint8, "r")
        verdicts.drop(positions[states[numbers] == GOES], (NEAR, NEAR))
        for split in HELD_OUT:
            place = SPLITS.index(split)
            if place != own:
                verdicts.drop(positions[owners == place], ("held out", f"in a cluster of the {split} source"))
        repeated = self.related.repeated(shard)
        places = repeated["document"] - np.uint32(shard.first)
        if self.config.deduplicate == "exact":
            verdicts.drop(places, (REPEATS, REPEATS))
        bounds = np.cumsum([0, *self.held_out])
        for split, start, stop in zip(HELD_OUT, bounds, bounds[1:], strict=False):
            if split != shard.to_split:
                is_there = (repeated["earlier"] >= start) & (repeated["earlier"] < stop)
                verdicts.drop(places[is_there], ("held out", in_source(split)))
        return verdicts, splits
