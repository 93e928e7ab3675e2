"""Sources that are files, here, on S3, Google Cloud Storage or a server of HTTP."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import filterfalse
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import Field, model_validator

from pipeline.corpus.documents import Document, FilePart, Rejected, RemoteFile, UnreadableFileError
from pipeline.corpus.remote_names import check_address, is_remote
from pipeline.corpus.source_files import COMPRESSED, find_files
from pipeline.corpus.sources.base_source import Source


class LocalFiles(Source):
    """Files, here or elsewhere."""

    suffixes: ClassVar[tuple[str, ...]]
    """Endings of the files that are read of a folder."""

    is_text: ClassVar[bool] = True
    """Whether the format is text, which may be compressed as a whole."""

    paths: list[str] = Field(min_length=1)
    """Files, folders (their files with the usual suffixes of the type, at any depth, hidden ones left out) and globs
    (`**` for any depth; what exists as it is written is no wildcard), relative to the working directory. Documents name
    the file they come from by this path, or, where it is absolute, by what lies below its last folder without
    wildcards. Text, html, csv, json and jsonl may be compressed: .gz, .zst, .bz2, .xz. Addresses (s3://,
    gs://, http://, https://) name files, folders and wildcards as well, but those of HTTP files alone. They are fetched
    one by one while they are read; credentials are those of the environment."""

    is_shared_out = True

    @model_validator(mode="after")
    def _addresses_can_be_read(self) -> Self:
        for path in filter(is_remote, self.paths):
            check_address(path)
        return self

    def find_files(self) -> dict[Path, str]:
        """What the patterns match on this machine, sorted within each, each file once."""
        return {part.path: part.origin for part in self._find(filterfalse(is_remote, self.paths))}

    def facts_of_key(self) -> Mapping[str, Any]:
        """Of each address, the stamps of its files, in short where there are many."""
        facts = dict(super().facts_of_key())
        for address in filter(is_remote, self.paths):
            files = list(self._remote_files(address))
            digest = hashlib.sha256("".join(f"{file.url} {file.stamp}\n" for file in files).encode()).hexdigest()
            facts[address] = files[0].stamp if len(files) == 1 else f"{len(files)} files ({digest[:24]})"
        return facts

    def whole_files(self) -> list[FilePart]:
        """What the patterns match, here and elsewhere, in their order."""
        return list(self._find(self.paths))

    def _find(self, patterns: Iterable[str]) -> Iterator[FilePart]:
        found = set()
        for pattern in patterns:
            for part in self._remote_parts(pattern) if is_remote(pattern) else self._local_parts(pattern):
                name = part.remote.url if part.remote else part.path
                if name not in found:
                    found.add(name)
                    yield part

    def _local_parts(self, pattern: str) -> Iterator[FilePart]:
        suffixes = self.wanted_suffixes()
        for path, origin in find_files([pattern], suffixes, self._packed(), self.place).items():
            if self.is_wanted(path, pattern):
                yield FilePart(path, origin, 0, path.stat().st_size)

    def _remote_parts(self, address: str) -> Iterator[FilePart]:
        for file, origin in self._remote_files(address).items():
            if self.is_wanted(Path(origin), ""):
                yield FilePart(Path(file.url.rpartition("/")[2]), origin, 0, file.num_bytes, remote=file)

    def _remote_files(self, address: str) -> dict[RemoteFile, str]:
        from pipeline.corpus.readers.remote_files import list_remote

        return list_remote(address, self.wanted_suffixes() + self._packed(), self.place)

    def _packed(self) -> tuple[str, ...]:
        """Endings of compressed files that are read of a folder."""
        if not self.is_text:
            return ()
        return tuple(f"{suffix}{ending}" for suffix in self.wanted_suffixes() for ending in COMPRESSED)

    def wanted_suffixes(self) -> tuple[str, ...]:
        """Endings of the files that are read of a folder, as the settings want it."""
        return self.suffixes

    def is_wanted(self, path: Path, pattern: str) -> bool:
        """Whether a file that a pattern matches is read."""
        return True

    def read(self, parts: Sequence[FilePart], scratch: Path) -> Iterator[Document | Rejected]:
        """The records of parts of files. Where one cannot be read further, the file as a whole counts as lost."""
        for part in parts:
            if part.remote is None or part.num_bytes == 0:
                yield from self._read_whole(part)
                continue
            from pipeline.corpus.readers.remote_files import fetched

            with fetched(part, scratch, self.place) as copy:
                yield from self._read_whole(copy)

    def _read_whole(self, part: FilePart) -> Iterator[Document | Rejected]:
        if part.num_bytes == 0:
            yield Rejected(self.name, part.origin, "empty file")
            return
        try:
            yield from self.read_part(part)
        except UnreadableFileError as error:
            size = part.path.stat().st_size
            yield Rejected(self.name, error.origin or part.origin, error.reason, error.detail, lost_bytes=size)

    @abstractmethod
    def read_part(self, part: FilePart) -> Iterator[Document | Rejected]:
        """The records of a part of a file. Raises UnreadableFileError where it cannot be read further."""
