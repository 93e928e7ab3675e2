"""What filters leave of the texts of documents that stay, as columns of a shard."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.corpus.document_batches import DocumentBatch, column_texts
from pipeline.corpus.filters import EditingFilter, Filter


def edit_table(table: pa.Table, stays: NDArray[np.bool_], filters: Sequence[Filter]) -> pa.Table:
    """The documents of a table, of those that stay the text that is left of it; `changes` names the filters."""
    editing = [one for one in filters if isinstance(one, EditingFilter)]
    if not editing or not stays.any():
        return table
    texts = column_texts(table.column("text"))
    batch = DocumentBatch(table.drop_columns("text"), texts, [()] * len(texts), 0)
    for number in np.flatnonzero(stays).tolist():
        for one in editing:
            text, _ = one.edited(texts[number])
            if text != texts[number]:
                texts[number] = text
                batch.changes[number] += (f"curate:{one.type}",)
    return batch.to_table()
