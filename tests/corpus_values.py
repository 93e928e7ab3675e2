"""Short ways to what tests of the corpus ask for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from pipeline.corpus.curate_config import CurateConfig
from pipeline.corpus.document_batches import DocumentBatch
from pipeline.corpus.document_shards import SCHEMA
from pipeline.corpus.documents import SPLITS, Document, SplitName
from pipeline.corpus.splitting import splits_of_hashes


def batch_of(documents: Sequence[Document]) -> DocumentBatch:
    """Documents as a batch."""
    table = pa.Table.from_pylist(list(map(vars, documents)), schema=SCHEMA)
    return DocumentBatch(table.drop_columns("text"), [one.text for one in documents], [()] * len(documents), 0)


def split_of_hash(value: int, config: CurateConfig) -> SplitName:
    """The split of one text."""
    return SPLITS[splits_of_hashes(np.array([value], dtype=np.uint64), config)[0]]
