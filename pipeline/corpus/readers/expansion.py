"""Files of bytes, decompressed while they are read, with limits on what a small file may grow to."""

from __future__ import annotations

import codecs
import lzma
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from pipeline.corpus.readers.records import Part, UnreadableFileError

MAX_EXPANSION = 200
"""How many times its size a compressed file may grow. Text grows 3 to 20 times; gzip's limit is 1,032."""

ALWAYS_ALLOWED_BYTES = 64_000_000
"""What any file may grow to, whatever its size."""

MAX_EXPANDED_BYTES = 1_000_000_000_000
"""Most bytes that a compressed file may hold."""

MAX_XZ_MEMORY_BYTES = 256_000_000
"""Most memory for the dictionary of an .xz file; `xz -9` takes 65 MB."""

CHUNK_BYTES = 1 << 20
FOREIGN_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
ENDINGS = {"UTF-16LE": slice(1, None, 2), "UTF-16BE": slice(0, None, 2)}
ARROW_CODECS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}


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
                "grows too much", f"more than {self._most:,} bytes, {MAX_EXPANSION} times its size: a bomb?"
            )


@contextmanager
def open_file(path: Path, start: int = 0) -> Iterator[Readable]:
    """A file's bytes from `start` on; those of a compressed file, by its suffix, are decompressed.

    What `read` raises for a file that is not whole is an UnreadableFileError.
    """
    suffix = path.suffix.lower()
    if suffix == ".xz":
        with path.open("rb") as file:
            yield _Limited(_XzStream(file).read, path)
    elif suffix in ARROW_CODECS:
        with pa.OSFile(str(path)) as file, pa.CompressedInputStream(file, ARROW_CODECS[suffix]) as stream:
            yield _Limited(stream.read, path)
    else:
        with path.open("rb", buffering=0) as plain:
            plain.seek(start)
            yield plain


def chunks(file: Readable, part: Part) -> Iterator[bytes]:
    """The content of a part of a text file in pieces of CHUNK_BYTES; of a compressed file, all that it holds.

    Raises UnreadableFileError for a file in UTF-16 or UTF-32.
    """
    left = MAX_EXPANDED_BYTES if is_compressed(part.path) else part.num_bytes
    is_head = part.start == 0
    while chunk := file.read(min(CHUNK_BYTES, left)):
        if is_head:
            _check_encoding(chunk)
            is_head = False
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


def _check_encoding(head: bytes) -> None:
    found = next((encoding for mark, encoding in FOREIGN_MARKS.items() if head.startswith(mark)), None)
    if found is None and b"\0" in (first := head[:100]) and len(first) >= 8:
        # Without a mark, Latin text in UTF-16 is known by the zeros that are every second of its bytes.
        found = next((name for name, zeros in ENDINGS.items() if not any(first[zeros])), None)
    if found:
        raise UnreadableFileError(f"{found}, not UTF-8", f"iconv -f {found} -t UTF-8 converts it")


def is_compressed(path: Path) -> bool:
    """Whether a file's suffix says that it is compressed."""
    return path.suffix.lower() in (*ARROW_CODECS, ".xz")


class _Limited:
    """A decompressing stream under limits, whose errors say what is wrong with the file."""

    def __init__(self, read: Callable[[int], bytes], path: Path) -> None:
        self._read = read
        self._kind = path.suffix.lower()
        self._limit = ExpansionLimit(path.stat().st_size)

    def read(self, size: int) -> bytes:
        try:
            data = self._read(size)
        except (OSError, EOFError, lzma.LZMAError, pa.ArrowException) as error:
            if getattr(error, "errno", None) is not None:
                raise
            raise UnreadableFileError(f"not a whole {self._kind} file", " ".join(str(error).split())) from None
        self._limit.add(len(data))
        return data


class _XzStream:
    """The content of an .xz file: pyarrow has no xz, and lzma.open takes any amount of memory that a file asks for."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._decompressor = self._next()
        self._is_fresh = True

    def _next(self) -> lzma.LZMADecompressor:
        return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MAX_XZ_MEMORY_BYTES)

    def read(self, size: int) -> bytes:
        """Up to `size` bytes, none at the end. Raises EOFError and LZMAError for a file that is not whole."""
        unused = b""
        while True:
            if self._decompressor.eof:
                unused = self._decompressor.unused_data
                self._decompressor, self._is_fresh = self._next(), True
            more = unused
            if not more and self._decompressor.needs_input:
                more = self._file.read(CHUNK_BYTES)
                if not more:
                    if self._is_fresh:
                        return b""
                    raise EOFError("truncated")
            if self._is_fresh:
                more = more.lstrip(b"\0")  # Streams may be padded with zeros.
                unused = b""
                if not more:
                    continue
            data = self._decompressor.decompress(more, size)
            unused, self._is_fresh = b"", False
            if data:
                return data
