"""From the sources of a configuration to documents; what cannot be read is rejected with place and reason."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.config.corpus import IngestConfig, JsonlSource, PythonDocsSource, TextSource
from pipeline.corpus.documents import SHARD_BYTES, Document, document_id
from pipeline.corpus.python_docs import read_python_docs
from pipeline.corpus.sources import AnySource, source_files

CHUNK_BYTES = 1 << 20
MAX_RECORD_BYTES = 100_000_000
"""Longest record that is read; a file without the expected separators must not fill the memory."""

EXCERPT_CHARS = 200


@dataclass
class Rejected:
    """A record that is not usable: where it stands, why, and how it begins."""

    source: str
    origin: str
    reason: str
    detail: str = ""
    excerpt: str = ""


@dataclass(frozen=True)
class Part:
    """Whole records of a file, from byte `start` on. `origin` names the file; records count from `first_record`."""

    path: Path
    origin: str
    start: int
    num_bytes: int
    first_record: int = 1


def reading_tasks(section: IngestConfig) -> list[tuple[AnySource, list[Part]]]:
    """Pieces of work of about a shard each: small files of a source are gathered, large ones are cut."""
    tasks: list[tuple[AnySource, list[Part]]] = []
    for source in section.sources:
        group: list[Part] = []
        num_bytes = 0
        for path, origin in source_files(source).items():
            for part in _cut(Part(path, origin, 0, path.stat().st_size), source):
                group.append(part)
                num_bytes += part.num_bytes
                # The library's documentation is one task, whatever its size: it leaves out what it has seen.
                if num_bytes >= SHARD_BYTES and not isinstance(source, PythonDocsSource):
                    tasks.append((source, group))
                    group, num_bytes = [], 0
        if group:
            tasks.append((source, group))
    return tasks


def _cut(whole: Part, source: AnySource) -> Iterator[Part]:
    """Parts of about SHARD_BYTES of a large file. Finding where they begin takes a second a gigabyte."""
    separator = _separator(source)
    start, first = 0, 1
    if separator is not None and whole.num_bytes >= 2 * SHARD_BYTES:
        for number, begin, _ in _records(whole, separator):
            if begin - start >= SHARD_BYTES:
                yield Part(whole.path, whole.origin, start, begin - start, first)
                start, first = begin, number
    yield Part(whole.path, whole.origin, start, whole.num_bytes - start, first)


def _separator(source: AnySource) -> bytes | None:
    if isinstance(source, JsonlSource):
        return b"\n"
    if isinstance(source, TextSource) and source.separator is not None:
        return source.separator.encode()
    return None


def read_parts(source: AnySource, parts: list[Part]) -> Iterator[Document | Rejected]:
    """The records of parts of a source's files, in order; blank ones between separators are passed over."""
    if isinstance(source, PythonDocsSource):
        for name, text in read_python_docs(part.path for part in parts):
            yield _document(source, name, text)
        return
    separator = _separator(source)
    for part in parts:
        if separator is None:
            fits = part.num_bytes <= MAX_RECORD_BYTES
            yield _read_record(source, part.origin, part.path.read_bytes() if fits else None)
            continue
        mark = ":" if isinstance(source, JsonlSource) else "#"
        for number, _, data in _records(part, separator):
            if data is None or data.strip():
                yield _read_record(source, f"{part.origin}{mark}{number}", data)


def _records(part: Part, separator: bytes) -> Iterator[tuple[int, int, bytes | None]]:
    """`(number, first byte, content)` of the records of a part; None for one longer than MAX_RECORD_BYTES."""
    number, begin = part.first_record, part.start
    pending, num_skipped, left = b"", 0, part.num_bytes
    with part.path.open("rb") as file:
        file.seek(part.start)
        # Reading as much again as is pending keeps the time linear when a record spans many chunks.
        while chunk := file.read(min(max(CHUNK_BYTES, len(pending)), left)):
            left -= len(chunk)
            *whole, pending = (pending + chunk).split(separator)
            for data in whole:
                yield number, begin, None if num_skipped or len(data) > MAX_RECORD_BYTES else data
                begin += num_skipped + len(data) + len(separator)
                number, num_skipped = number + 1, 0
            if len(pending) > MAX_RECORD_BYTES:
                end = len(pending) - len(separator) + 1  # The rest may be the beginning of a separator.
                num_skipped, pending = num_skipped + end, pending[end:]
    yield number, begin, None if num_skipped or len(pending) > MAX_RECORD_BYTES else pending


def _read_record(source: TextSource | JsonlSource, origin: str, data: bytes | None) -> Document | Rejected:
    if data is None:
        return Rejected(source.name, origin, f"longer than {MAX_RECORD_BYTES:,} bytes")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return Rejected(source.name, origin, "not UTF-8", f"byte {error.start}", _excerpt(data))
    if isinstance(source, JsonlSource):
        return _parse(source, origin, text)
    return _document(source, origin, text) if text.strip() else Rejected(source.name, origin, "empty text")


def _parse(source: JsonlSource, origin: str, line: str) -> Document | Rejected:
    def rejected(reason: str) -> Rejected:
        return Rejected(source.name, origin, reason, excerpt=line[:EXCERPT_CHARS].strip())

    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return rejected("not valid JSON")
    if not isinstance(record, dict):
        return rejected("not a JSON object")
    text = record.get(source.text_field)
    if text is None:
        return rejected(f"no field {source.text_field!r}")
    if not isinstance(text, str):
        return rejected(f"field {source.text_field!r} is not text")
    if not text.strip():
        return rejected("empty text")
    label = record.get(source.label_field) if source.label_field else None
    if label is not None and not isinstance(label, str):
        label = json.dumps(label)
    try:
        f"{text}{label}".encode()
    except UnicodeEncodeError:
        return rejected("text has a lone surrogate")
    return _document(source, origin, text, label)


def _excerpt(data: bytes) -> str:
    return data[: 4 * EXCERPT_CHARS].decode(errors="replace")[:EXCERPT_CHARS].strip()


def _document(source: AnySource, origin: str, text: str, label: str | None = None) -> Document:
    identifier = document_id(source.name, origin, text)
    return Document(identifier, text, source.name, origin, label=label, weight=source.weight)
