"""Kinds of compressed files: their first bytes, and decompressors where pyarrow's will not do."""

from __future__ import annotations

import bz2
import lzma
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pipeline.corpus.documents import UnreadableFileError

READ_BYTES = 1 << 20
MAX_XZ_MEMORY_BYTES = 256_000_000
"""Most memory for the dictionary of an .xz file; `xz -9` takes 65 MB."""

TOO_MUCH_MEMORY = ("Memory usage limit", "too much memory")
"""What lzma and zstd say when an intact file needs too much memory."""
MORE_BEHIND = "Unknown frame descriptor"
"""What zstd says when other bytes follow the last frame; we say it for other formats."""
MAGIC_BYTES = 10
"""The first bytes tell the kind of a file, except for tar archives."""


class Streams:
    """The content of compressed streams that stand one after the other, as `cat` puts them, padded with zeros or not.

    pyarrow takes no padding and has no xz; the standard library's files ignore what follows, or take any amount of
    memory that a file asks for.
    """

    def __init__(self, file: Any, kind: CompressedKind) -> None:
        self._file = file
        self._kind = kind
        self._decompressor = self._new()
        self._pending = b""

    def _new(self) -> Any:
        assert self._kind.decompressor is not None
        return self._kind.decompressor()

    def read(self, size: int) -> bytes:
        """Up to `size` bytes, none at the end. Raises errors of the library, and EOFError where the file breaks off."""
        while True:
            if self._decompressor.eof and not self._is_followed():
                return b""
            more = b""
            if self._decompressor.needs_input:
                more = self._pending or self._file.read(READ_BYTES)
                self._pending = b""
                if not more:
                    raise EOFError("it breaks off")
            if data := self._decompressor.decompress(more, size):
                return bytes(data)

    def _is_followed(self) -> bool:
        """Whether another stream follows the one that is over."""
        rest = self._decompressor.unused_data.lstrip(b"\0")
        while len(rest) < MAGIC_BYTES and (more := self._file.read(READ_BYTES)):
            rest = (rest + more).lstrip(b"\0")
        if rest and not self._kind.magic.match(rest):
            raise EOFError(MORE_BEHIND)
        self._decompressor, self._pending = self._new(), rest
        return bool(rest)


class _GzipDecompressor:
    """zlib's, as those of bz2 and lzma are used."""

    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:
        return self._zlib.eof

    @property
    def unused_data(self) -> bytes:
        return self._zlib.unused_data

    @property
    def needs_input(self) -> bool:
        return not self._zlib.unconsumed_tail

    def decompress(self, data: bytes, size: int) -> bytes:
        return self._zlib.decompress(self._zlib.unconsumed_tail + data, size)


@dataclass(frozen=True)
class CompressedKind:
    """How a kind of compressed file begins, the command that makes it, and its decompressor where pyarrow's will not
    do."""

    magic: re.Pattern[bytes]
    tool: str
    decompressor: Callable[[], Any] | None = None


COMPRESSED_KINDS = {
    ".gz": CompressedKind(re.compile(rb"\x1f\x8b"), "gzip", _GzipDecompressor),
    ".zst": CompressedKind(re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18"), "zstd"),
    ".bz2": CompressedKind(re.compile(rb"BZh[1-9](1AY&SY|\x17rE8P\x90)"), "bzip2", bz2.BZ2Decompressor),
    ".xz": CompressedKind(
        re.compile(rb"\xfd7zXZ\0"), "xz", lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MAX_XZ_MEMORY_BYTES)
    ),
}


def unreadable(suffix: str, why: str) -> UnreadableFileError:
    """What is wrong with a compressed file that begins as one, and what to do about it."""
    if any(words in why for words in TOO_MUCH_MEMORY):
        return UnreadableFileError("takes too much memory to decompress", "pack it with a smaller dictionary or window")
    if MORE_BEHIND in why:
        tool = COMPRESSED_KINDS[suffix].tool
        return UnreadableFileError(
            f"more behind the end of its {suffix} data", f"`{tool} -dc OLD | {tool} > NEW` leaves it out"
        )
    return UnreadableFileError(f"not a whole {suffix} file", f"{why}; fetch or make it again")
