"""Labels of the documents of a token stream."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

LABELS = "labels.parquet"
SCHEMA = pa.schema([pa.field("label", pa.string())])
BATCH_LABELS = 100_000


def write_labels(labels: Iterable[str | None], folder: Path) -> int:
    """Write one label a document, in the order of the stream, and return how many are there.

    The file has one column, `label`; null stands for none. Numbers are the text that parses to them. Where no
    document has a label there is no file.
    """
    path = folder / LABELS
    num_labels = 0
    labels = iter(labels)
    with pq.ParquetWriter(path, SCHEMA, compression="zstd") as writer:
        while batch := list(islice(labels, BATCH_LABELS)):
            column = pa.array(batch, pa.string())
            num_labels += len(column) - column.null_count
            writer.write_table(pa.Table.from_arrays([column], schema=SCHEMA))
    if not num_labels:
        path.unlink()
    return num_labels
