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
EXCERPT_CHARS = 200


@dataclass
class Rejected:
    """A record that is not usable: where it stands, why, and how it begins."""

    source: str
    origin: str
    reason: str
    excerpt: str = ""


def reading_tasks(section: IngestConfig) -> list[tuple[AnySource, list[Path]]]:
    """Consecutive files of one source, gathered until they are about a shard large."""
    tasks: list[tuple[AnySource, list[Path]]] = []
    for source in section.sources:
        group: list[Path] = []
        size = 0
        for path in source_files(source):
            group.append(path)
            size += path.stat().st_size
            if size >= SHARD_BYTES:
                tasks.append((source, group))
                group, size = [], 0
        if group:
            tasks.append((source, group))
    return tasks


def read_file(source: AnySource, path: Path) -> Iterator[Document | Rejected]:
    """The records of one file of a source, in order."""
    if isinstance(source, PythonDocsSource):
        for name, text in read_python_docs(path):
            yield _document(source, name, text)
    elif isinstance(source, TextSource):
        yield from _read_text(source, path)
    else:
        yield from _read_jsonl(source, path)


def _read_text(source: TextSource, path: Path) -> Iterator[Document | Rejected]:
    if source.separator is None:
        yield _decoded(source, place(path), path.read_bytes())
        return
    for number, data in enumerate(_pieces(path, source.separator.encode()), start=1):
        if data.strip():
            yield _decoded(source, f"{place(path)}#{number}", data)


def _pieces(path: Path, separator: bytes) -> Iterator[bytes]:
    """The parts of a file between separators, read in chunks."""
    pending = b""
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            *whole, pending = (pending + chunk).split(separator)
            yield from whole
    yield pending


def _decoded(source: TextSource, origin: str, data: bytes) -> Document | Rejected:
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        excerpt = data[:EXCERPT_CHARS].decode(errors="replace")
        return Rejected(source.name, origin, f"not UTF-8 at byte {error.start}", excerpt)
    return _document(source, origin, text) if text.strip() else Rejected(source.name, origin, "empty text")


def _read_jsonl(source: JsonlSource, path: Path) -> Iterator[Document | Rejected]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield _parsed(source, f"{place(path)}:{number}", line)


def _parsed(source: JsonlSource, origin: str, line: bytes) -> Document | Rejected:
    excerpt = line[: 4 * EXCERPT_CHARS].decode(errors="replace")[:EXCERPT_CHARS].strip()
    try:
        record = json.loads(line.decode())
    except UnicodeDecodeError as error:
        return Rejected(source.name, origin, f"not UTF-8 at byte {error.start}", excerpt)
    except (ValueError, RecursionError):
        return Rejected(source.name, origin, "not valid JSON", excerpt)
    if not isinstance(record, dict):
        return Rejected(source.name, origin, "not a JSON object", excerpt)
    text = record.get(source.text_field)
    if text is None:
        return Rejected(source.name, origin, f"no field {source.text_field!r}", excerpt)
    if not isinstance(text, str):
        return Rejected(source.name, origin, f"field {source.text_field!r} is not text", excerpt)
    if not text.strip():
        return Rejected(source.name, origin, "empty text", excerpt)
    try:
        text.encode()
    except UnicodeEncodeError:
        return Rejected(source.name, origin, "text has a lone surrogate", excerpt)
    label = record.get(source.label_field) if source.label_field else None
    if label is not None and not isinstance(label, str):
        label = json.dumps(label)
    return _document(source, origin, text, label)


def _document(source: AnySource, origin: str, text: str, label: str | None = None) -> Document:
    identifier = document_id(source.name, origin, text)
    return Document(identifier, text, source.name, origin, label=label, weight=source.weight)


def place(path: Path) -> str:
    """How a file is named in documents: as the configuration gives it, but without folders of this machine."""
    return path.name if path.is_absolute() else path.as_posix()
