"""The records of a web archive, WARC or ARC."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.corpus.documents import FilePart, UnreadableFileError
from pipeline.corpus.readers import page_text
from pipeline.corpus.readers.archive_bytes import (
    ARC_LINE,
    MAX_HEAD_BYTES,
    ArchiveBytes,
    BrokenArchiveError,
    next_start,
)

KINDS = ("response", "resource", "conversion")
"""Records that hold what a server gave, or a text made of it."""

LENGTH = re.compile(rb"(?im)^content-length:[ \t]*(\d{1,18})[ \t]*\r?$")


@dataclass
class ArchiveRecord:
    """A record of one of KINDS. `head` is a header of WARC, of which those of ARC get one. Of a record longer than
    MAX_PAGE_BYTES, `block` is the beginning."""

    place: str
    url: str
    kind: str
    content_type: str
    head: bytes
    block: bytes
    is_whole: bool


@dataclass
class DamagedRecord:
    """A stretch of an archive that cannot be read."""

    place: str
    detail: str
    num_bytes: int


def archive_records(part: FilePart) -> Iterator[ArchiveRecord | DamagedRecord]:
    """The records of a part of an archive. Behind a damaged one it goes on with the next that can be found.

    Raises UnreadableFileError for what is no archive.
    """
    end = part.start + part.num_bytes
    start: int | None = part.start
    with part.path.open("rb") as file:
        while start is not None:
            data = ArchiveBytes(file, start, end)
            begin, place = None, ""
            try:
                if start == 0 and data.peek(1) and not data.is_at_start():
                    raise UnreadableFileError("not a WARC or ARC file", "packed by gzip or not at all")
                while data.peek(1):
                    begin, place = data.offset, data.name
                    record = _read_record(data, place)
                    data.skip_line_ends()
                    if not data.is_at_start():
                        raise BrokenArchiveError("no record begins where it ends")
                    if record is not None:
                        yield record
                    begin = None
                return
            except BrokenArchiveError as error:
                if begin is None:  # not in a record, but before the next
                    begin, place = data.offset, data.name
                start = next_start(file, begin + 1, end)
                yield DamagedRecord(place, str(error), (start or end) - begin)


def length_of(data: bytes) -> int | None:
    """Bytes of a record that begins here, with its header; None where none does."""
    if data.startswith(b"WARC/"):
        head = data.find(b"\r\n\r\n")
        found = LENGTH.search(data, 0, head + 2) if head >= 0 else None
        return head + 4 + int(found[1]) if found else None
    line = ARC_LINE.match(data)
    return line.end() + int(line[5]) if line else None


def _read_record(data: ArchiveBytes, place: str) -> ArchiveRecord | None:
    """The next record, or None where it is of another kind."""
    if data.peek(5) != b"WARC/":
        return _read_arc_record(data, place)
    head = data.until(b"\r\n\r\n")
    found = LENGTH.search(head)
    if found is None:
        raise BrokenArchiveError("its header has no Content-Length")
    kind = _field(head, b"WARC-Type").lower()
    if kind not in KINDS:
        data.skip(int(found[1]))
        return None
    url = _field(head, b"WARC-Target-URI").removeprefix("<").removesuffix(">")
    return ArchiveRecord(place, url, kind, _field(head, b"Content-Type"), head, *_block(data, int(found[1])))


def _read_arc_record(data: ArchiveBytes, place: str) -> ArchiveRecord | None:
    line = ARC_LINE.fullmatch(data.until(b"\n"))
    if line is None:
        raise BrokenArchiveError("no header of a record")
    size = int(line[5])
    if line[1].startswith(b"filedesc:"):
        data.skip(size)
        return None
    block, is_whole = _block(data, size)
    is_http = block.startswith(b"HTTP/")
    content_type = "application/http; msgtype=response" if is_http else line[4].decode(errors="replace")
    head = b"WARC/1.0\r\nWARC-Type: response\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n"
    whole_head = head % (content_type.encode(), size)
    return ArchiveRecord(place, line[1].decode(errors="replace"), "response", content_type, whole_head, block, is_whole)


def _block(data: ArchiveBytes, size: int) -> tuple[bytes, bool]:
    """The content of a record and whether that is all of it."""
    if size <= page_text.MAX_PAGE_BYTES:
        return data.take(size), True
    beginning = data.take(MAX_HEAD_BYTES)
    data.skip(size - MAX_HEAD_BYTES)
    return beginning, False


def _field(head: bytes, name: bytes) -> str:
    found = re.search(rb"(?im)^" + name + rb":[ \t]*([^\r\n]*)", head)
    return found[1].decode(errors="replace").strip() if found else ""
