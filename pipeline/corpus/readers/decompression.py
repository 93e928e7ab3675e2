"""Open files and decompress them while they are read. A small file may not expand without limit."""

from __future__ import annotations

import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from pipeline.corpus.documents import FilePart, UnreadableFileError
from pipeline.corpus.readers.compression import COMPRESSED_KINDS, MAGIC_BYTES, Streams, unreadable
from pipeline.corpus.readers.magic_bytes import check_text, likeness
from pipeline.corpus.source_files import COMPRESSED

MAX_EXPANSION = 200
"""How many times its size a compressed file may grow. Text grows 3 to 20 times; gzip's limit is 1,032."""

ALWAYS_ALLOWED_BYTES = 64_000_000
"""What any file may grow to, whatever its size."""

MAX_EXPANDED_BYTES = 1_000_000_000_000
"""Most bytes that a compressed file may hold."""

CHUNK_BYTES = 1 << 20


class Readable(Protocol):
    """What readers need of a file."""

    def read(self, size: int, /) -> bytes: ...


class ExpansionLimit:
    """Counts what a file has grown to."""

    def __init__(self, file_bytes: int) -> None:
        self._most = min(max(ALWAYS_ALLOWED_BYTES, MAX_EXPANSION * file_bytes), MAX_EXPANDED_BYTES)
        self._num_bytes = 0

    def add(self, num_bytes: int) -> None:
        """Raises UnreadableFileError when the file has grown past the limit."""
        self._num_bytes += num_bytes
        if self._num_bytes > self._most:
            raise UnreadableFileError(
                "grows too much",
                f"more than {self._most:,} bytes, {MAX_EXPANSION} times its size: a bomb? else decompress it",
            )


@contextmanager
def open_file(path: Path, start: int = 0) -> Iterator[Readable]:
    """A file's bytes from `start` on; those of a compressed file, by its suffix, are decompressed.

    Raises UnreadableFileError for what is not compressed as its suffix says, as `read` does where it is not whole.
    """
    suffix = path.suffix.lower()
    kind = COMPRESSED_KINDS.get(suffix)
    if kind is None:
        with path.open("rb", buffering=0) as plain:
            plain.seek(start)
            yield plain
        return
    with path.open("rb") as file:
        head = file.read(MAGIC_BYTES)
        if not kind.magic.match(head):
            raise UnreadableFileError(f"not a {suffix} file", likeness(head, suffix))
        file.seek(0)
        if kind.decompressor is not None:
            yield _Limited(Streams(file, kind).read, path)
            return
    with pa.OSFile(str(path)) as file, pa.CompressedInputStream(file, "zstd") as stream:
        yield _Limited(stream.read, path)


def chunks(file: Readable, part: FilePart) -> Iterator[bytes]:
    """The content of a part of a text file in pieces of CHUNK_BYTES; of a compressed file, all that it holds.

    Raises UnreadableFileError for a file in UTF-16 or UTF-32, and for one that is no text.
    """
    most = left = MAX_EXPANDED_BYTES if is_compressed(part.path) else part.num_bytes
    while chunk := file.read(min(CHUNK_BYTES, left)):
        if part.start == 0 and left == most:
            check_text(chunk, is_compressed(part.path))
        left -= len(chunk)
        yield chunk


def line_break(path: Path) -> bytes:
    """What ends the first line of a file: a line feed, with a carriage return before it in files of Windows, or, where
    the first CHUNK_BYTES have no line feed, a carriage return alone, as in files of old Macintoshes."""
    head = b""
    with open_file(path) as file:
        while b"\n" not in head and len(head) < CHUNK_BYTES and (more := file.read(CHUNK_BYTES)):
            head += more
    if b"\n" not in head:
        return b"\r" if b"\r" in head else b"\n"
    return b"\r\n" if head[: head.index(b"\n")].endswith(b"\r") else b"\n"


def is_compressed(path: Path) -> bool:
    """Whether a file's suffix says that it is compressed."""
    return path.suffix.lower() in COMPRESSED


class _Limited:
    """A decompressing stream under limits, whose errors say what is wrong with the file."""

    def __init__(self, read: Callable[[int], bytes], path: Path) -> None:
        self._read = read
        self._suffix = path.suffix.lower()
        self._limit = ExpansionLimit(path.stat().st_size)

    def read(self, size: int) -> bytes:
        try:
            data = self._read(size)
        except (OSError, EOFError, lzma.LZMAError, zlib.error, pa.ArrowException) as error:
            if getattr(error, "errno", None) is not None:
                raise
            raise unreadable(self._suffix, " ".join(str(error).split())) from None
        self._limit.add(len(data))
        return data
