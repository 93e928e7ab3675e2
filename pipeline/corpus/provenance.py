"""Shards of altered copies, and how each copy was made: a row a copy in `provenance/`, beside the training split."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.corpus.augmenting import Copy
from pipeline.corpus.document_shards import ShardWriter, read_column
from pipeline.corpus.documents import Document
from pipeline.corpus.edits import changed_spans

SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("parent", pa.string(), nullable=False),
        pa.field("copy", pa.int32(), nullable=False),
        pa.field("recipe", pa.int32(), nullable=False),
        pa.field(
            "operations",
            pa.list_(
                pa.struct(
                    [
                        pa.field("type", pa.string(), nullable=False),
                        pa.field("arguments", pa.string(), nullable=False),  # JSON
                        pa.field("seed", pa.uint64(), nullable=False),
                        pa.field("model", pa.string()),
                        pa.field("num_edits", pa.int32(), nullable=False),
                    ]
                )
            ),
            nullable=False,
        ),
        pa.field(
            "spans",  # characters of the parent that were replaced, and of the copy that replace them
            pa.list_(pa.struct([(name, pa.int64()) for name in ("start", "stop", "new_start", "new_stop")])),
            nullable=False,
        ),
        pa.field("similarity", pa.float64(), nullable=False),
    ]
)

GROUP_ROWS = 10_000


class CopyWriter:
    """Writes the copies of the documents of a shard, and where they come from. Without a copy there are no files."""

    def __init__(self, source: Path, output: Path) -> None:
        self._source = source
        # "." sorts before "b": readers come to a shard of originals first, and then to their copies.
        self._shard = output / "train" / f"{source.stem}b{source.suffix}"
        self._provenance = output / "provenance" / source.name
        self._writers: tuple[ShardWriter, pq.ParquetWriter] | None = None
        self._rows: list[dict[str, Any]] = []
        self.num_documents = 0
        self.num_bytes = 0

    def write(self, document: Document, copy: Copy) -> None:
        """Append a copy, as a document, with the row that says how it was made."""
        if self._writers is None:
            self._provenance.parent.mkdir(parents=True, exist_ok=True)
            rows = pq.ParquetWriter(
                self._provenance, SCHEMA, compression="zstd", write_statistics=False, write_page_checksum=True
            )
            self._writers = ShardWriter(self._shard), rows
        self._writers[0].write(document)
        self._rows.append(_row(document.id, copy))
        if len(self._rows) >= GROUP_ROWS:
            self._flush(self._writers[1])

    def close(self) -> None:
        """Write what is pending and the footers."""
        if self._writers is None:
            return
        shard, rows = self._writers
        self._flush(rows)
        rows.close()
        shard.close()
        self.num_documents, self.num_bytes = shard.num_documents, shard.num_bytes
        _check_parents(self._source, self._shard)

    def _flush(self, writer: pq.ParquetWriter) -> None:
        if self._rows:
            writer.write_table(pa.Table.from_pylist(self._rows, schema=SCHEMA))
            self._rows = []


def _row(copy_id: str, copy: Copy) -> dict[str, Any]:
    return {
        "id": copy_id,
        "parent": copy.parent.id,
        "copy": copy.number,
        "recipe": copy.recipe,
        "operations": [{**one, "arguments": json.dumps(one["arguments"], sort_keys=True)} for one in copy.operations],
        "spans": [span._asdict() for span in changed_spans(copy.edits)],
        "similarity": copy.similarity,
    }


def _check_parents(originals: Path, copies: Path) -> None:
    """Each copy is of a document of the training split, and no two have one name."""
    known = set(read_column(originals, "id"))
    names = list(read_column(copies, "id"))
    assert known.issuperset(read_column(copies, "parent")), f"{copies} has a copy of a document that is not in train"
    assert len(known.union(names)) == len(known) + len(names), f"{copies} has two documents of one name"
