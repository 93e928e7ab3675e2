"""The Parquet shards that hold documents."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.corpus.documents import SPLITS, Document, SplitName
from pipeline.integrity import check_file

if TYPE_CHECKING:
    from pipeline.corpus.document_batches import DocumentBatch

SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("text", pa.large_string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("origin", pa.string(), nullable=False),
        pa.field("label", pa.string()),
        pa.field("group", pa.string()),
        pa.field("parent", pa.string()),
        pa.field("changes", pa.list_(pa.string()), nullable=False),
    ]
)

REPEATING = ["source", "label", "group", "parent", "changes.list.element"]
"""Columns whose values are written once, with references to them; to try it on others costs time."""

TO_SPLIT = b"to_split"
"""Of a shard's schema: the split to which its source sends all documents. Not there where texts decide."""

TEXT_BYTES = b"text_bytes"
"""Of a shard's footer: how many UTF-8 bytes its texts have together."""

SHARD_BYTES = 32_000_000
GROUP_BYTES = 4_000_000


def shard_paths(folder: Path) -> list[Path]:
    """The shards of a folder, in corpus order."""
    return sorted(folder.glob("shard-*.parquet"))


def shard_name(number: int) -> str:
    """File name of a shard."""
    return f"shard-{number:06d}.parquet"


def _open(path: Path) -> pq.ParquetFile:
    """Open a shard whose file and pages match their checksums; those of pages do not cover its footer."""
    check_file(path)
    return pq.ParquetFile(path, page_checksum_verification=True)


def read_tables(path: Path, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """Some columns of one shard, or all, a row group at a time."""
    with _open(path) as file:
        for group in range(file.num_row_groups):
            yield file.read_row_group(group, columns=columns)


def read_shard(path: Path) -> Iterator[Document]:
    """The documents of one shard, one row group in memory at a time."""
    for table in read_tables(path):
        for row in table.to_pylist():
            yield Document(**row)


def read_documents(folder: Path) -> Iterator[Document]:
    """The documents of all shards of a folder, in corpus order."""
    for path in shard_paths(folder):
        yield from read_shard(path)


def read_texts(folder: Path) -> Iterator[str]:
    """The texts alone, which is several times faster than whole documents."""
    for path in shard_paths(folder):
        yield from read_column(path, "text")


def read_labels(folder: Path) -> Iterator[str | None]:
    """The labels alone, of the documents of all shards of a folder, in corpus order."""
    for path in shard_paths(folder):
        yield from read_column(path, "label")


def read_column(path: Path, name: str) -> Iterator[Any]:
    """A column of one shard, one row group in memory at a time."""
    for table in read_tables(path, [name]):
        yield from table.column(name).to_pylist()


def table_of(documents: Sequence[Document]) -> pa.Table:
    """Documents as a table with the columns of SCHEMA."""
    columns = [pa.array(list(map(attrgetter(field.name), documents)), field.type) for field in SCHEMA]
    return pa.Table.from_arrays(columns, schema=SCHEMA)


def to_split_of(path: Path) -> SplitName | None:
    """The split to which the source of a shard sends all of its documents; None where their texts decide."""
    with _open(path) as file:
        named = (file.schema_arrow.metadata or {}).get(TO_SPLIT, b"").decode()
    return next((split for split in SPLITS if split == named), None)


def count_documents(folder: Path) -> int:
    """Number of documents in a folder, from the shards' footers."""
    return sum(pq.read_metadata(path).num_rows for path in shard_paths(folder))


def text_bytes(path: Path) -> int:
    """UTF-8 bytes of the texts of a shard, from its footer."""
    return int(pq.read_metadata(path).metadata[TEXT_BYTES])


class ShardWriter:
    """Writes documents into one shard; row groups end after GROUP_BYTES of text, so readers need little memory."""

    def __init__(self, path: Path, to_split: SplitName | None = None) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        schema = SCHEMA.with_metadata({TO_SPLIT: to_split}) if to_split else SCHEMA
        self._writer = pq.ParquetWriter(
            path,
            schema,
            compression="zstd",
            use_dictionary=REPEATING,
            write_statistics=False,
            write_page_checksum=True,
        )
        self._documents: list[Document] = []
        self._tables: list[pa.Table] = []
        self.pending_bytes = 0
        """Text that is in memory yet."""
        self.num_documents = 0
        self.num_bytes = 0

    def write(self, document: Document) -> None:
        """Append a document."""
        self.add(document)
        self.flush_full_group()

    def add(self, document: Document) -> None:
        """Append a document, but leave it in memory."""
        size = document.num_bytes
        self._documents.append(document)
        self.pending_bytes += size
        self.num_documents += 1
        self.num_bytes += size

    def write_batch(self, batch: DocumentBatch) -> None:
        """Append the documents of a batch."""
        self.write_table(batch.to_table())

    def write_table(self, table: pa.Table) -> None:
        """Append the rows of a table with the columns of SCHEMA. Row groups end where `write` would end them."""
        self._gather_documents()
        table = table.replace_schema_metadata()
        sizes = np.asarray(pc.binary_length(table.column("text")))
        self.num_documents += len(sizes)
        self.num_bytes += int(sizes.sum())
        until = np.cumsum(sizes)
        start, written = 0, 0
        while start < len(sizes):
            stop = min(int(np.searchsorted(until, written + GROUP_BYTES - self.pending_bytes)) + 1, len(sizes))
            self._tables.append(table.slice(start, stop - start))
            self.pending_bytes += int(until[stop - 1]) - written
            start, written = stop, int(until[stop - 1])
            self.flush_full_group()

    def flush_full_group(self) -> None:
        """Write what is pending if it makes a row group."""
        if self.pending_bytes >= GROUP_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what is pending as a row group."""
        self._gather_documents()
        tables, self._tables, self.pending_bytes = self._tables, [], 0
        if tables:
            table = pa.concat_tables(tables).combine_chunks()
            del tables  # A long text is not to be in memory a second time while it is compressed.
            self._writer.write_table(table)

    def _gather_documents(self) -> None:
        if self._documents:
            self._tables.append(table_of(self._documents))
            self._documents = []

    def close(self) -> None:
        """Write what is pending and the footer."""
        self.flush()
        self._writer.add_key_value_metadata({TEXT_BYTES: str(self.num_bytes)})
        self._writer.close()


def write_shards(
    folder: Path,
    documents: Iterable[Document],
    to_split: SplitName | None = None,
    report: Callable[[int], None] = lambda num_bytes: None,
) -> tuple[int, int]:
    """Write documents into consecutive shards of about SHARD_BYTES of text; at least one shard, maybe empty. Tells
    `report` of each row group. Gives the number of documents and of their bytes."""
    writer = ShardWriter(folder / shard_name(0), to_split)
    writers = [writer]
    for document in documents:
        if writer.num_bytes >= SHARD_BYTES:
            writer.close()
            writer = ShardWriter(folder / shard_name(len(writers)), to_split)
            writers.append(writer)
        writer.add(document)
        del document  # A long text is not to be in memory a second time while it is compressed.
        if writer.pending_bytes >= GROUP_BYTES:
            report(writer.pending_bytes)
            writer.flush()
    writer.close()
    return sum(one.num_documents for one in writers), sum(one.num_bytes for one in writers)
