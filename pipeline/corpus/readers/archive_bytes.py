"""The bytes of a web archive, unpacked, and where in the file they stand."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from typing import BinaryIO

GZIP = b"\x1f\x8b\x08"
CHUNK_BYTES = 1 << 18

MAX_HEAD_BYTES = 1 << 16
"""Longest header of a record."""

START_BYTES = 1 << 12
"""By so many bytes the beginning of a record is known."""

ARC_LINE = re.compile(rb"(\S[^\r\n]*?) (\S+) (\d{14}) (\S+)(?: \S+){0,5}? (\d+)\r?\n")
"""URL, address of the server, time, type and length of a record of ARC; version 2 has more between the last two."""

_START = re.compile(rb"WARC/\d\.\d+\r?\n|[a-z]{2,12}:\S[^\r\n]*? \S+ \d{14} \S+(?: \S+){0,5}? \d+\r?\n")
_AFTER_LINE = re.compile(rb"\n(?=" + _START.pattern + rb")")


class BrokenArchiveError(Exception):
    """An archive cannot be read further, for the reason in the message."""


def is_record_start(data: bytes) -> bool:
    """Whether bytes begin like a record of WARC or ARC."""
    return _START.match(data) is not None


class ArchiveBytes:
    """The bytes of a file from `start` to `stop`, read in order; what gzip packed is unpacked, member by member.

    Raises BrokenArchiveError for what is damaged or breaks off.
    """

    def __init__(self, file: BinaryIO, start: int, stop: int) -> None:
        self._file = file
        file.seek(start)
        self._raw = file.read(min(CHUNK_BYTES, stop - start))
        self._raw_end, self._stop = start + len(self._raw), stop
        self._is_packed = self._raw.startswith(GZIP[:2])
        self._member = zlib.decompressobj(31)
        self._is_begun = False
        self._buffer, self._at = bytearray(), 0
        self._position = 0  # of the buffer's first byte among all that were unpacked
        self._members = [(0, start)]  # where members begin: among unpacked bytes, in the file

    @property
    def offset(self) -> int:
        """Where in the file the next byte stands, or begins the member of gzip that holds it."""
        return self._place()[0]

    @property
    def name(self) -> str:
        """`offset`, and how far behind the beginning of the member the next byte stands, where it does."""
        offset, behind = self._place()
        return f"{offset}+{behind}" if behind else str(offset)

    def is_at_start(self) -> bool:
        """Whether a record or the next member of gzip begins here, be it that it breaks off at once, or nothing is
        left."""
        while len(self._buffer) - self._at < START_BYTES and not self._is_member_over and self._more():
            pass
        held = bytes(memoryview(self._buffer)[self._at : self._at + START_BYTES])
        return is_record_start(held) or (len(held) < START_BYTES and b"\n" not in held)

    @property
    def _is_member_over(self) -> bool:
        return self._is_packed and (self._member.eof or not self._is_begun)

    def _place(self) -> tuple[int, int]:
        position = self._position + self._at
        while len(self._members) > 1 and self._members[1][0] <= position:
            del self._members[0]
        first, offset = self._members[0]
        return (offset, position - first) if self._is_packed else (offset + position - first, 0)

    def peek(self, size: int) -> bytes:
        """The next bytes, up to `size`; fewer at the end."""
        while len(self._buffer) - self._at < size and self._more():
            pass
        return bytes(memoryview(self._buffer)[self._at : self._at + size])

    def take(self, size: int) -> bytes:
        """The next bytes."""
        data = self.peek(size)
        if len(data) < size:
            raise BrokenArchiveError("it breaks off")
        self._pass(size)
        return data

    def skip(self, size: int) -> None:
        """Pass over the next bytes."""
        while size > 0:
            if not (held := len(self._buffer) - self._at) and not self._more():
                raise BrokenArchiveError("it breaks off")
            self._pass(min(size, held))
            size -= min(size, held)

    def until(self, end: bytes) -> bytes:
        """The next bytes up to the end of a record's header, with it."""
        while (found := self._buffer.find(end, self._at, self._at + MAX_HEAD_BYTES)) < 0:
            if len(self._buffer) - self._at >= MAX_HEAD_BYTES or not self._more():
                raise BrokenArchiveError("its header has no end")
        return self.take(found + len(end) - self._at)

    def skip_line_ends(self) -> None:
        """Pass over the line ends behind a record, so far as the member that holds it goes: then all of it is whole."""
        while True:
            while self._at < len(self._buffer) and self._buffer[self._at] in b"\r\n":
                self._at += 1
            if self._at < len(self._buffer) or self._is_member_over or not self._more():
                return

    def _pass(self, size: int) -> None:
        self._at += size
        if self._at >= CHUNK_BYTES:
            del self._buffer[: self._at]
            self._position += self._at
            self._at = 0

    def _more(self) -> bool:
        """Take in some bytes more, or come to the end of a member; False at the end."""
        if not self._is_packed:
            self._buffer += self._raw
            got = bool(self._raw)
            self._raw = self._read()
            return got
        if self._member.eof:
            self._raw, self._member, self._is_begun = self._member.unused_data, zlib.decompressobj(31), False
        self._raw = self._raw or self._read()
        if not self._raw:
            if self._is_begun:
                raise BrokenArchiveError("it breaks off")
            return False
        if not self._is_begun:
            self._members.append((self._position + len(self._buffer), self._raw_end - len(self._raw)))
            self._is_begun = True
        try:
            self._buffer += self._member.decompress(self._raw, CHUNK_BYTES)
        except zlib.error as error:
            raise BrokenArchiveError(f"gzip: {error}") from None
        self._raw = self._member.unconsumed_tail
        return True

    def _read(self) -> bytes:
        data = self._file.read(min(CHUNK_BYTES, self._stop - self._raw_end))
        self._raw_end += len(data)
        return data


def next_start(file: BinaryIO, start: int, stop: int, least: int = 1) -> int | None:
    """Where the first record or packed member from `start` on begins that is followed by whole members of `least` bytes
    or up to the end; None where there is none before `stop`."""
    file.seek(0)
    is_packed = file.read(2) == GZIP[:2]
    if not is_packed:
        return next((at for at in _found(file, _AFTER_LINE, start - 1, stop, 1)), None)
    for at in _found(file, re.compile(re.escape(GZIP)), start, stop, 0):
        if _members_follow(file, at, least):
            return at
    return None


def _found(file: BinaryIO, pattern: re.Pattern[bytes], start: int, stop: int, skip: int) -> Iterator[int]:
    """Where a pattern is found, `skip` bytes behind the beginning of each."""
    at = max(start, 0)
    while at < stop:
        file.seek(at)
        window = file.read(CHUNK_BYTES + START_BYTES)
        for match in pattern.finditer(window):
            if match.start() < CHUNK_BYTES and at + match.start() + skip < stop:
                yield at + match.start() + skip
        at += CHUNK_BYTES


def _members_follow(file: BinaryIO, start: int, least: int) -> bool:
    """Whether members of gzip that hold records stand one after the other from `start` on."""
    at = start
    while at - start < least:
        file.seek(at)
        member, head, size = zlib.decompressobj(31), b"", 0
        while not member.eof:
            if not (raw := file.read(1 << 16)):
                return at > start and size == 0
            size += len(raw)
            while raw and not member.eof:
                try:
                    data = member.decompress(raw, CHUNK_BYTES)
                except zlib.error:
                    return False
                raw = member.unconsumed_tail
                if len(head) < MAX_HEAD_BYTES:
                    head += data
            if len(head) >= MAX_HEAD_BYTES and not is_record_start(head):
                return False
        if not is_record_start(head):
            return False
        at += size - len(member.unused_data)
    return True
