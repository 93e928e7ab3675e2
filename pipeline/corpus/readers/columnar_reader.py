"""Parquet and Arrow files, batch by batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.corpus.documents import Document, FilePart, Rejected, UnreadableFileError
from pipeline.corpus.readers.decompression import ALWAYS_ALLOWED_BYTES, MAX_EXPANSION, ExpansionLimit
from pipeline.corpus.readers.records import MAX_RECORD_BYTES, too_long
from pipeline.corpus.sources.arrow import Arrow
from pipeline.corpus.sources.base_records import Records
from pipeline.corpus.sources.parquet import Parquet

BATCH_BYTES = 4_000_000
BATCH_ROWS = 1000
ARROW_FILE_MARK = b"ARROW1"
TEXT_TYPES = ("string", "large_string", "binary")


def read_parquet(source: Parquet, part: FilePart) -> Iterator[Document | Rejected]:
    """The documents of a Parquet file, named by the number of their row."""
    names = source.fields()
    with _damage("Parquet"), pq.ParquetFile(part.path) as file:
        _check_columns(source, file.schema_arrow.names)
        # A dictionary keeps a text that millions of rows share in memory once.
        plain = [name for name in names if str(file.schema_arrow.field(name).type) in TEXT_TYPES]
        rows = RowReader(source, part.origin, limit=ExpansionLimit(part.num_bytes))
        for group in range(file.num_row_groups):
            _check_group(file.metadata.row_group(group), names)
        options = {"buffer_size": 1 << 20, "page_checksum_verification": True}
        with pq.ParquetFile(part.path, read_dictionary=plain, **options) as dictionaries:
            for group in range(file.num_row_groups):
                size = _batch_rows(file.metadata.row_group(group), names)
                yield from rows.read(dictionaries.iter_batches(size, [group], columns=names))


def read_arrow(source: Arrow, part: FilePart) -> Iterator[Document | Rejected]:
    """The documents of an Arrow file of either format, named by the number of their row."""
    with _damage("Arrow"), pa.memory_map(str(part.path)) as file:
        is_file = file.read(len(ARROW_FILE_MARK)) == ARROW_FILE_MARK
        file.seek(0)
        opened = pa.ipc.open_file(file) if is_file else pa.ipc.open_stream(file)
        _check_columns(source, opened.schema.names)
        rows = RowReader(source, part.origin, limit=ExpansionLimit(part.num_bytes))
        batches = map(opened.get_batch, range(opened.num_record_batches)) if is_file else opened
        yield from rows.read(batches)


class RowReader:
    """Documents from the rows of record batches, which are numbered from 1 on.

    Where labels are numbers of classes, `class_names` are what they stand for; a negative one is no label.
    """

    def __init__(
        self,
        source: Records,
        origin: str,
        class_names: list[str] | None = None,
        limit: ExpansionLimit | None = None,
    ) -> None:
        self._source, self._names = source, source.fields()
        self._origin = origin
        self._class_names = class_names
        self._limit = limit
        self._number = 0

    def read(self, batches: Iterable[pa.RecordBatch]) -> Iterator[Document | Rejected]:
        """The document of each row of some batches, or why there is none."""
        for batch in batches:
            columns = [_checked(batch.column(name)) for name in self._names]
            for row in range(batch.num_rows):
                self._number += 1
                yield self._document(columns, row)

    def _document(self, columns: list[pa.Array], row: int) -> Document | Rejected:
        origin = f"{self._origin}#{self._number}"
        values: dict[str, Any] = {}
        for name, column in zip(self._names, columns, strict=True):
            values[name] = _plain(column[row])
            if isinstance(values[name], bytes):
                if len(values[name]) > MAX_RECORD_BYTES:
                    return too_long(self._source, origin)
                if self._limit:
                    self._limit.add(len(values[name]))
        label = self._source.label_field
        if label and self._class_names and isinstance(number := values[label], int):
            values[label] = self._class_names[number] if 0 <= number < len(self._class_names) else None
        return self._source.read_record(origin, values)


def _plain(value: pa.Scalar) -> Any:
    """A value of a column. A number has no more digits than its type tells apart: 0.1, not float32's 0.10000000149."""
    if isinstance(value, pa.DictionaryScalar):
        value = value.value
    narrow = {pa.float16(): np.float16, pa.float32(): np.float32}.get(value.type)
    return value.as_py() if narrow is None or not value.is_valid else float(str(narrow(value.as_py())))


def _checked(column: pa.Array) -> pa.Array:
    """A column whose text is bytes, to be decoded value by value, and whose offsets and indices are in bounds.

    Raises ArrowInvalid for a damaged one, which would make the process read anywhere.
    """
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    if pa.types.is_dictionary(column.type):
        column.validate()
        column = pa.DictionaryArray.from_arrays(column.indices, _checked(column.dictionary))
    elif pa.types.is_string_view(column.type) or pa.types.is_binary_view(column.type):
        column.validate()
        column = column.cast(pa.large_binary(), safe=False)
    elif pa.types.is_string(column.type):
        column = column.view(pa.binary())
    elif pa.types.is_large_string(column.type):
        column = column.view(pa.large_binary())
    column.validate(full=True)
    return column


def _check_columns(source: Records, names: list[str]) -> None:
    if problem := source.missing_from(names):
        raise UnreadableFileError(*problem)


def _chunks_of(group: Any, names: list[str]) -> list[Any]:
    chunks = [group.column(index) for index in range(group.num_columns)]
    return [chunk for chunk in chunks if chunk.path_in_schema.split(".")[0] in names]


def _check_group(group: Any, names: list[str]) -> None:
    """Refuse a row group that says of itself that it is a bomb: its pages are decompressed whole."""
    for chunk in _chunks_of(group, names):
        most = max(ALWAYS_ALLOWED_BYTES, MAX_EXPANSION * chunk.total_compressed_size)
        if chunk.total_uncompressed_size > most:
            raise UnreadableFileError("grows too much", f"a column of {chunk.total_uncompressed_size:,} bytes: a bomb?")


def _batch_rows(group: Any, names: list[str]) -> int:
    """Rows of a row group that have about BATCH_BYTES together."""
    size = sum(chunk.total_uncompressed_size for chunk in _chunks_of(group, names))
    return max(1, min(BATCH_ROWS, BATCH_BYTES * group.num_rows // max(1, size)))


@contextmanager
def _damage(kind: str) -> Iterator[None]:
    """Turn what pyarrow says of a damaged file into an UnreadableFileError."""
    try:
        yield
    except (pa.ArrowException, OSError, EOFError) as error:
        if getattr(error, "errno", None) is not None:
            raise
        raise UnreadableFileError(f"not a whole {kind} file", " ".join(str(error).split())[:200]) from None
