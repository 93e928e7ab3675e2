"""Text cut at separators, and JSON lines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from pipeline.corpus.documents import EXCERPT_CHARS, Document, FilePart, Rejected
from pipeline.corpus.readers import records
from pipeline.corpus.readers.decompression import chunks, line_break, open_file
from pipeline.corpus.readers.records import decoded, json_object, too_long
from pipeline.corpus.sources.jsonl import Jsonl
from pipeline.corpus.sources.text import Text

_DECODER = json.JSONDecoder(object_pairs_hook=json_object)


def read_text(source: Text, part: FilePart) -> Iterator[Document | Rejected]:
    """The documents of a part of a text file; blank ones between separators are passed over."""
    if source.separator is None:
        yield _text_document(source, part.origin, _whole(part))
        return
    separator = with_breaks_of(part.path, source.separator)
    foreign = _with_breaks(source.separator, b"\n" if b"\r\n" in separator else b"\r\n")
    for number, _, data in cut(part, separator):
        origin = f"{part.origin}#{number}"
        if data is not None and foreign != separator and foreign in data:
            yield Rejected(source.name, origin, "mixed line ends", "the separator stands in it with others; dos2unix")
        elif data is None or (data and not data.isspace()):
            yield _text_document(source, origin, data)


def with_breaks_of(path: Path, separator: str) -> bytes:
    """The bytes of a separator in which line breaks are those of a file."""
    return _with_breaks(separator, line_break(path)) if "\n" in separator else separator.encode()


def _with_breaks(separator: str, line_break: bytes) -> bytes:
    return separator.encode().replace(b"\r\n", b"\n").replace(b"\n", line_break)


def read_jsonl(source: Jsonl, part: FilePart) -> Iterator[Document | Rejected]:
    """The documents of a part of a file with one JSON object a line; blank lines are passed over."""
    for number, _, data in cut(part, line_break(part.path)[-1:]):
        if data is None or (data and not data.isspace()):
            yield _json_document(source, f"{part.origin}:{number}", data)


def cut(part: FilePart, separator: bytes) -> Iterator[tuple[int, int, bytes | bytearray | None]]:
    """`(number, first byte, content)` of the records of a part; None for one longer than MAX_RECORD_BYTES.

    A record that was put together from several chunks is a bytearray, which its reader may clear: it is in memory
    once, not twice. (A list of chunks would leave the memory full of holes.)
    """
    number, begin = part.first_record, part.start
    pending = bytearray()  # what has been read of the record in hand,
    carry = b""  # but for its last bytes, which may be the beginning of a separator
    size = 0
    overlap = len(separator) - 1
    with open_file(part.path, part.start) as file:
        for chunk in chunks(file, part):
            *whole, rest = (carry + chunk).split(separator)
            for data in whole:
                size += len(data)
                if size > records.MAX_RECORD_BYTES:
                    yield number, begin, None
                elif pending:
                    pending += data
                    yield number, begin, pending
                    pending = bytearray()
                else:
                    yield number, begin, data
                begin += size + len(separator)
                number, size = number + 1, 0
            keep = max(0, len(rest) - overlap)
            carry = rest[keep:]
            size += keep
            if size > records.MAX_RECORD_BYTES:
                pending.clear()
            else:
                pending += memoryview(rest)[:keep]
    pending += carry
    yield number, begin, pending if size + len(carry) <= records.MAX_RECORD_BYTES else None


def _whole(part: FilePart) -> bytearray | None:
    """The content of a file, or None where it is longer than MAX_RECORD_BYTES."""
    content = bytearray()
    with open_file(part.path) as file:
        for chunk in chunks(file, part):
            content += chunk
            if len(content) > records.MAX_RECORD_BYTES:
                return None
    return content


def _text_document(source: Text, origin: str, data: bytes | bytearray | None) -> Document | Rejected:
    if data is None:
        return too_long(source, origin)
    text = decoded(source, origin, data)
    return text if isinstance(text, Rejected) else source.document(origin, text)


def _json_document(source: Jsonl, origin: str, data: bytes | bytearray | None) -> Document | Rejected:
    if data is None:
        return too_long(source, origin)
    line = decoded(source, origin, data)
    if isinstance(line, Rejected):
        return line
    excerpt = line[:EXCERPT_CHARS].strip()
    try:
        record = _DECODER.decode(line)
    except RecursionError:
        return Rejected(source.name, origin, "not valid JSON", "nested too deeply", excerpt)
    except ValueError as error:
        detail = getattr(error, "msg", "a number of too many digits")
        if line.strip() in ("{", "["):
            detail += "; for one value over several lines say type: json"
        return Rejected(source.name, origin, "not valid JSON", detail, excerpt)
    del line
    if not isinstance(record, dict):
        detail = "for an array of records say type: json" if isinstance(record, list) else ""
        return Rejected(source.name, origin, "not a JSON object", detail, excerpt)
    return source.read_record(origin, record, excerpt)
