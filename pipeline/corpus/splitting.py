"""Which split a document belongs to: a pure function of its text."""

from __future__ import annotations

from pipeline.corpus.curate_config import CurateConfig
from pipeline.corpus.documents import SplitName


def split_of_hash(value: int, config: CurateConfig) -> SplitName:
    """The split by a text's hash (`dedup.text_hash`) as a fraction of its range: equal texts always land together.

    The hash that finds duplicates is used, so that texts alike but for case and white space share a split even
    when deduplication is off. Growing one fraction only moves documents out of `train`.
    """
    position = value / 2**64
    if position < config.test_fraction:
        return "test"
    return "validation" if position >= 1 - config.validation_fraction else "train"
