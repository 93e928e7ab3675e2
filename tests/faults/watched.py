"""A folder of which a test learns what was opened or changed in it, by whatever library, through Linux's inotify."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

IN_OPEN, IN_CHANGES = 0x20, 0x2 | 0x40 | 0x80 | 0x100 | 0x200
IN_ISDIR = 0x40000000


@contextmanager
def watching(folder: Path) -> Iterator[list[str]]:
    """Names of the files in `folder` that were opened or changed inside the block; known when it has ended."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.inotify_init1(os.O_NONBLOCK)
    assert descriptor >= 0
    assert libc.inotify_add_watch(descriptor, os.fsencode(folder), IN_OPEN | IN_CHANGES) >= 0
    seen: list[str] = []
    try:
        yield seen
        seen += _names(descriptor)
    finally:
        os.close(descriptor)


def _names(descriptor: int) -> Iterator[str]:
    try:
        events = os.read(descriptor, 1 << 16)
    except BlockingIOError:
        return
    while events:
        _, mask, _, length = struct.unpack_from("iIII", events)
        if not mask & IN_ISDIR:  # looking at the list of files reads none of them
            yield events[16 : 16 + length].rstrip(b"\0").decode()
        events = events[16 + length :]
