"""From the sources of a configuration to documents: the work is shared out, and each piece read by its source."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

from pipeline.corpus.document_shards import SHARD_BYTES
from pipeline.corpus.documents import Document, FilePart, Rejected, UnreadableFileError
from pipeline.corpus.ingest_config import IngestConfig
from pipeline.corpus.readers.decompression import is_compressed
from pipeline.corpus.readers.line_reader import cut
from pipeline.corpus.sources import Source


def reading_tasks(config: IngestConfig) -> list[tuple[Source, list[FilePart]]]:
    """Pieces of work of about a shard each: small files of a source are gathered, large ones are cut.

    A source that has to be read from the start to the end is one piece: one with a limit, a dataset of the hub, and
    the library's documentation, which leaves out what it has seen.
    """
    tasks: list[tuple[Source, list[FilePart]]] = []
    for source in config.sources:
        is_whole = not source.is_shared_out or bool(source.max_documents or source.max_bytes)
        group: list[FilePart] = []
        num_bytes = 0
        files = source.whole_files()
        for whole in files:
            for part in [whole] if is_whole or whole.remote else source.cut(whole) or _cut(whole, source):
                group.append(part)
                num_bytes += part.num_bytes
                if num_bytes >= SHARD_BYTES and not is_whole:
                    tasks.append((source, group))
                    group, num_bytes = [], 0
        if group or not files:
            tasks.append((source, group))
    return tasks


def _cut(whole: FilePart, source: Source) -> Iterator[FilePart]:
    """Parts of about SHARD_BYTES of a large file. Finding where they begin takes a second a gigabyte."""
    start, first = 0, 1
    is_large = whole.num_bytes >= 2 * SHARD_BYTES and not is_compressed(whole.path)
    try:
        if is_large and (separator := source.separator_in(whole.path)):
            for number, begin, _ in cut(whole, separator):
                if begin - start >= SHARD_BYTES:
                    yield FilePart(whole.path, whole.origin, start, begin - start, first)
                    start, first = begin, number
    except UnreadableFileError:
        assert start == 0  # Only the head of such a file is looked at, and its reader says what is wrong with it.
    if start == 0 or start < whole.num_bytes:  # Nothing is left after a last line that ends in a line break.
        yield FilePart(whole.path, whole.origin, start, whole.num_bytes - start, first)


def read_parts(source: Source, parts: list[FilePart], scratch: Path) -> Iterator[Document | Rejected]:
    """The records of parts of a source's files, in order, up to the limits of the source.

    `scratch` is a folder for what a reader needs meanwhile.
    """
    records = source.read(parts, scratch)
    return takewhile(_Limits(source), records) if source.max_documents or source.max_bytes else records


class _Limits:
    """Whether a source's next record is within its limits."""

    def __init__(self, source: Source) -> None:
        self._max_documents = source.max_documents or math.inf
        self._max_bytes = source.max_bytes or math.inf
        self._num_documents = self._num_bytes = 0

    def __call__(self, record: Document | Rejected) -> bool:
        if isinstance(record, Document):
            self._num_documents += 1
            self._num_bytes += record.num_bytes
        return self._num_documents <= self._max_documents and self._num_bytes <= self._max_bytes
