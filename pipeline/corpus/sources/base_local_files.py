"""Sources that are local files."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from pipeline.corpus.documents import Document, FilePart, Rejected, UnreadableFileError
from pipeline.corpus.source_files import COMPRESSED, find_files
from pipeline.corpus.sources.base_source import Source


class LocalFiles(Source):
    """Local files."""

    suffixes: ClassVar[tuple[str, ...]]
    """Endings of the files that are read of a folder."""

    is_text: ClassVar[bool] = True
    """Whether the format is text, which may be compressed as a whole."""

    paths: list[str] = Field(min_length=1)
    """Files, folders (their files with the usual suffixes of the type, at any depth, hidden ones left out) and globs
    (`**` for any depth; what exists as it is written is no wildcard), relative to the working directory. Documents name
    the file they come from by this path, or, where it is absolute, by what lies below its last folder without
    wildcards. Text, html, csv, json and jsonl may be compressed: .gz, .zst, .bz2, .xz."""

    is_shared_out = True

    def find_files(self) -> dict[Path, str]:
        """What the patterns match, sorted within each, each file once."""
        suffixes = self.wanted_suffixes()
        packed = tuple(f"{suffix}{ending}" for suffix in suffixes for ending in COMPRESSED) if self.is_text else ()
        found: dict[Path, str] = {}
        for pattern in self.paths:
            for path, origin in find_files([pattern], suffixes, packed, self.place).items():
                if self.is_wanted(path, pattern):
                    found.setdefault(path, origin)
        return found

    def wanted_suffixes(self) -> tuple[str, ...]:
        """Endings of the files that are read of a folder, as the settings want it."""
        return self.suffixes

    def is_wanted(self, path: Path, pattern: str) -> bool:
        """Whether a file that a pattern matches is read."""
        return True

    def read(self, parts: Sequence[FilePart], scratch: Path) -> Iterator[Document | Rejected]:
        """The records of parts of files. Where one cannot be read further, the file as a whole counts as lost."""
        for part in parts:
            if part.num_bytes == 0:
                yield Rejected(self.name, part.origin, "empty file")
                continue
            try:
                yield from self.read_part(part)
            except UnreadableFileError as error:
                size = part.path.stat().st_size
                yield Rejected(self.name, error.origin or part.origin, error.reason, error.detail, lost_bytes=size)

    @abstractmethod
    def read_part(self, part: FilePart) -> Iterator[Document | Rejected]:
        """The records of a part of a file. Raises UnreadableFileError where it cannot be read further."""
