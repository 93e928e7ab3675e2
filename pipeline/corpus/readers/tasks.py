"""From the sources of a configuration to documents: the work is shared out, and each piece read by its reader."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import TypeGuard

from pipeline.config.corpus import IngestConfig
from pipeline.config.sources import (
    AnySource,
    ArrowSource,
    CsvSource,
    HubSource,
    JsonlSource,
    JsonSource,
    ParquetSource,
    PythonDocsSource,
    TextSource,
)
from pipeline.corpus.documents import SHARD_BYTES, Document
from pipeline.corpus.python_docs import read_python_docs
from pipeline.corpus.readers.delimited import kept_quotes, read_csv
from pipeline.corpus.readers.expansion import is_compressed
from pipeline.corpus.readers.json_values import read_json
from pipeline.corpus.readers.lines import cut, read_jsonl, read_text, separator_of
from pipeline.corpus.readers.records import Part, Rejected, UnreadableFileError, make_document
from pipeline.corpus.readers.tables import read_arrow, read_parquet
from pipeline.corpus.sources import source_files

LONG_BYTES = 1_000_000
"""What no text between separators is expected to reach."""

_ESCAPED_BREAK = re.compile(r"\\n(?![a-z])")


def reading_tasks(section: IngestConfig) -> list[tuple[AnySource, list[Part]]]:
    """Pieces of work of about a shard each: small files of a source are gathered, large ones are cut.

    A source that has to be read from the start to the end is one piece: one with a limit, a dataset of the hub, and
    the library's documentation, which leaves out what it has seen.
    """
    tasks: list[tuple[AnySource, list[Part]]] = []
    for source in section.sources:
        is_whole = isinstance(source, PythonDocsSource | HubSource) or bool(source.max_documents or source.max_bytes)
        group: list[Part] = []
        num_bytes = 0
        for path, origin in source_files(source).items():
            whole = Part(path, origin, 0, path.stat().st_size)
            for part in [whole] if is_whole else _cut(whole, source):
                group.append(part)
                num_bytes += part.num_bytes
                if num_bytes >= SHARD_BYTES and not is_whole:
                    tasks.append((source, group))
                    group, num_bytes = [], 0
        if group or isinstance(source, HubSource):
            tasks.append((source, group))
    return tasks


def _cut(whole: Part, source: AnySource) -> Iterator[Part]:
    """Parts of about SHARD_BYTES of a large file. Finding where they begin takes a second a gigabyte."""
    start, first = 0, 1
    if _has_separator(source) and whole.num_bytes >= 2 * SHARD_BYTES and not is_compressed(whole.path):
        try:
            for number, begin, _ in cut(whole, separator_of(source, whole.path)):
                if begin - start >= SHARD_BYTES:
                    yield Part(whole.path, whole.origin, start, begin - start, first)
                    start, first = begin, number
        except UnreadableFileError:
            assert start == 0  # Only the head of such a file is looked at, and its reader says what is wrong with it.
    if start == 0 or start < whole.num_bytes:  # Nothing is left after a last line that ends in a line break.
        yield Part(whole.path, whole.origin, start, whole.num_bytes - start, first)


def _has_separator(source: AnySource) -> TypeGuard[TextSource | JsonlSource]:
    return isinstance(source, JsonlSource) or (isinstance(source, TextSource) and source.separator is not None)


def read_parts(source: AnySource, parts: list[Part], scratch: Path) -> Iterator[Document | Rejected]:
    """The records of parts of a source's files, in order, up to the limits of the source.

    `scratch` is a folder for what a reader needs meanwhile.
    """
    records = _read_all(source, parts, scratch)
    return takewhile(_Limits(source), records) if source.max_documents or source.max_bytes else records


def doubts(source: AnySource, document: Document) -> Iterator[str]:
    """What may be read otherwise than meant in a document, though nothing in it tells."""
    if isinstance(source, CsvSource) and (mark := kept_quotes(source, document)):
        yield "in quotation marks" if mark == '"' else "in single quotation marks"
    if isinstance(source, TextSource) and source.separator and document.num_bytes > LONG_BYTES:
        yield "uncut"
    if "\n" not in document.text and _ESCAPED_BREAK.search(document.text):
        yield "escaped line breaks"


class _Limits:
    """Whether a source's next record is within its limits."""

    def __init__(self, source: AnySource) -> None:
        self._max_documents = source.max_documents or math.inf
        self._max_bytes = source.max_bytes or math.inf
        self._num_documents = self._num_bytes = 0

    def __call__(self, record: Document | Rejected) -> bool:
        if isinstance(record, Document):
            self._num_documents += 1
            self._num_bytes += record.num_bytes
        return self._num_documents <= self._max_documents and self._num_bytes <= self._max_bytes


def _read_all(source: AnySource, parts: list[Part], scratch: Path) -> Iterator[Document | Rejected]:
    from pipeline.corpus.readers.hub import read_hub

    if isinstance(source, PythonDocsSource):
        for name, text in read_python_docs(part.path for part in parts):
            yield make_document(source, name, text)
    elif isinstance(source, HubSource):
        yield from read_hub(source, scratch)
    else:
        for part in parts:
            yield from _read_part(source, part)


def _read_part(source: AnySource, part: Part) -> Iterator[Document | Rejected]:
    """The records of a part of a file. Where it cannot be read further, the file as a whole counts as lost."""
    if part.num_bytes == 0:
        yield Rejected(source.name, part.origin, "empty file")
        return
    try:
        yield from _reader(source, part)
    except UnreadableFileError as error:
        size = part.path.stat().st_size
        yield Rejected(source.name, error.origin or part.origin, error.reason, error.detail, lost_bytes=size)


def _reader(source: AnySource, part: Part) -> Iterator[Document | Rejected]:
    match source:
        case TextSource():
            return read_text(source, part)
        case JsonlSource():
            return read_jsonl(source, part)
        case JsonSource():
            return read_json(source, part)
        case CsvSource():
            return read_csv(source, part)
        case ParquetSource():
            return read_parquet(source, part)
        case ArrowSource():
            return read_arrow(source, part)
    raise AssertionError(f"no reader for {source.type}")
