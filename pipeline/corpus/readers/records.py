"""What readers of text share: the longest record, its bytes as text, and objects of JSON."""

from __future__ import annotations

import codecs
from collections import Counter
from typing import TYPE_CHECKING, Any

from pipeline.corpus.documents import EXCERPT_CHARS, Rejected

if TYPE_CHECKING:
    from pipeline.corpus.sources import Source

MAX_RECORD_BYTES = 100_000_000
"""Longest record that is read; a file without the expected separators must not fill the memory."""


class RepeatingRecord(dict[str, Any]):
    """A JSON object in which keys stand more than once. Its values are the last ones."""

    repeated: frozenset[str]


def json_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of pairs of key and value; one that says of itself where a key is repeated."""
    made = dict(pairs)
    if len(made) == len(pairs):
        return made
    repeating = RepeatingRecord(made)
    repeating.repeated = frozenset(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
    return repeating


def decoded(source: Source, origin: str, data: bytes | bytearray) -> str | Rejected:
    """The text of a record's bytes without a byte order mark, or why it is none. A bytearray is cleared."""
    try:
        text = data.decode("utf-8-sig" if data.startswith(codecs.BOM_UTF8) else "utf-8")
    except UnicodeDecodeError as error:
        excerpt = data[: 4 * EXCERPT_CHARS].decode(errors="replace")[:EXCERPT_CHARS].strip()
        return Rejected(source.name, origin, "not UTF-8", f"byte {error.start}", excerpt)
    if isinstance(data, bytearray):
        data.clear()
    return text


def too_long(source: Source, origin: str) -> Rejected:
    """The rejection of a record longer than MAX_RECORD_BYTES."""
    return Rejected(source.name, origin, f"longer than {MAX_RECORD_BYTES:,} bytes")
