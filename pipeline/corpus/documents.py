"""Documents, parts of files, and rejected records. Imports nothing heavy."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

SplitName = Literal["train", "validation", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")

EXCERPT_CHARS = 200


@dataclass
class Document:
    """One text with where it came from. `changes` says in words what altered it since."""

    id: str
    text: str
    source: str
    origin: str
    label: str | None = None
    group: str | None = None
    parent: str | None = None
    changes: list[str] = field(default_factory=list)

    @property
    def num_bytes(self) -> int:
        """Length of the text in UTF-8 bytes."""
        return utf8_length(self.text)


def utf8_length(text: str) -> int:
    """Length of a text in UTF-8 bytes."""
    return len(text) if text.isascii() else len(text.encode())


def document_id(source: str, origin: str, text: str) -> str:
    """A stable identifier of 24 hexadecimal digits from content and origin."""
    digest = hashlib.blake2b(digest_size=12)
    for part in (source, origin, text):
        data = part.encode()
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


@dataclass
class Rejected:
    """A record that is not usable: where it stands, why, and how it begins.

    Where a file could not be read to its end, `lost_bytes` is its size.
    """

    source: str
    origin: str
    reason: str
    detail: str = ""
    excerpt: str = ""
    lost_bytes: int = 0


@dataclass(frozen=True)
class RemoteFile:
    """A file on another machine. `stamp` is another one when its content is."""

    url: str
    num_bytes: int
    stamp: str


@dataclass(frozen=True)
class FilePart:
    """Whole records of a file, from byte `start` on. `origin` names the file; records count from `first_record`.

    Files that are not cut are one part. A `remote` one is fetched before it is read; its path is its name alone.
    """

    path: Path
    origin: str
    start: int
    num_bytes: int
    first_record: int = 1
    remote: RemoteFile | None = None


class UnreadableFileError(Exception):
    """The rest of a file cannot be read, for a reason that lies in its content; `origin` may say where."""

    def __init__(self, reason: str, detail: str = "", origin: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail
        self.origin = origin
