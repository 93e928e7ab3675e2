"""Which split a document belongs to: a pure function of its text."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus.curate_config import CurateConfig
from pipeline.corpus.dedup import Hashes
from pipeline.corpus.documents import SPLITS, SplitName


def split_of_hash(value: int, config: CurateConfig) -> SplitName:
    """The split by a text's hash (`dedup.text_hash`) as a fraction of its range: equal texts always land together.

    The hash that finds duplicates is used, so that texts alike but for case and white space share a split even
    when deduplication is off. Growing one fraction only moves documents out of `train`.
    """
    return SPLITS[splits_of_hashes(np.array([value], dtype=np.uint64), config)[0]]


def splits_of_hashes(values: Hashes, config: CurateConfig) -> NDArray[np.intp]:
    """The place in SPLITS of each text's split."""
    positions = values / 2.0**64
    train, validation, test = range(len(SPLITS))
    held_out = np.where(positions >= 1 - config.validation_fraction, validation, train)
    return np.where(positions < config.test_fraction, test, held_out)
