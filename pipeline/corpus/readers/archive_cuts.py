"""Large web archives are cut, so that several processes read them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import BinaryIO

from pipeline.corpus.document_shards import SHARD_BYTES
from pipeline.corpus.documents import FilePart
from pipeline.corpus.readers.archive_bytes import GZIP, next_start
from pipeline.corpus.readers.archive_records import length_of

FEWEST_BYTES = 200_000
"""Length of the chain of members by which the beginning of one is known. An archive inside of an archive is such a
chain too, but gzip keeps what it cannot pack in blocks of 65,535 bytes at most, and what is between them breaks it."""


def cut_archive(whole: FilePart) -> Iterator[FilePart]:
    """Parts of about SHARD_BYTES, which begin where a record does."""
    start, end = whole.start, whole.start + whole.num_bytes
    with whole.path.open("rb") as file:
        is_packed = file.read(2) == GZIP[:2]
        while end - start >= 2 * SHARD_BYTES:
            wanted = start + SHARD_BYTES
            found = next_start(file, wanted, end, FEWEST_BYTES) if is_packed else _record_from(file, start, wanted, end)
            if found is None or found >= end:
                break
            yield replace(whole, start=start, num_bytes=found - start)
            start = found
    yield replace(whole, start=start, num_bytes=end - start)


def _record_from(file: BinaryIO, start: int, wanted: int, end: int) -> int | None:
    """Where the first record from `wanted` on begins, by the lengths of those from `start` on; None where they do not
    say so."""
    at = start
    while at < wanted:
        file.seek(at)
        size = length_of(file.read(1 << 16))
        if size is None or at + size > end:
            return None
        at += size
        file.seek(at)
        behind = file.read(16)
        at += len(behind) - len(behind.lstrip(b"\r\n"))
    return at
