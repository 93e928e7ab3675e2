"""What every source has."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from pydantic import Field, PrivateAttr

from pipeline.corpus.documents import EXCERPT_CHARS, Document, FilePart, Rejected, SplitName, document_id
from pipeline.features import Feature

ESCAPED_BREAK = re.compile(r"\\n(?![a-z])")


class Source(Feature):
    """Where raw text comes from."""

    called_elsewhere: ClassVar = {"weight": "pack.mixture: {weights: {NAME: 0.3, OTHER: 0.7}}, shares of all sources"}

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
    """Name of the source in documents, counts and evaluation."""

    max_documents: int | None = Field(default=None, ge=1)
    """Read no more than this many documents, from the first on. A source with a limit is read by one process."""

    max_bytes: int | None = Field(default=None, ge=1)
    """Stop before the document with which the texts of this source would have more UTF-8 bytes than this."""

    split: SplitName | None = None
    """The split to which all of its documents go. Null shares them out by their texts, as curate's fractions say.
    What repeats a document of a test or validation source, or holds most of it, is dropped from training."""

    is_shared_out: ClassVar[bool] = False
    """Whether several processes may read its files, each some of them."""

    _setting: str = PrivateAttr("ingest.sources")

    @property
    def place(self) -> str:
        """Where messages say that something is wrong."""
        return f"{self._setting}: {self.name}"

    def stands_in(self, setting: str) -> None:
        """Say which setting lists it, for messages."""
        self._setting = setting

    def find_files(self) -> dict[Path, str]:
        """The files that it reads, and how documents name them. Their content enters the key.

        Raises MissingInputError where one cannot be read. It must be cheap.
        """
        return {}

    def files_of_key(self) -> Mapping[str, Sequence[Path]]:
        """All files by their paths."""
        return {path.as_posix(): [path] for path in self.find_files()}

    def whole_files(self) -> list[FilePart]:
        """The files that it reads, in order."""
        return [FilePart(path, origin, 0, path.stat().st_size) for path, origin in self.find_files().items()]

    def separator_in(self, path: Path) -> bytes | None:
        """What stands between records of a file, so that a large one can be cut; None where that is not known."""
        return None

    def cut(self, whole: FilePart) -> Iterator[FilePart] | None:
        """Parts of a file of about a shard each, where its format takes more than a separator; else None."""
        return None

    def check(self) -> None:
        """Raises ConfigError where what it needs is not installed."""

    @abstractmethod
    def read(self, parts: Sequence[FilePart], scratch: Path) -> Iterator[Document | Rejected]:
        """The documents of its files, or of some of them, in order. `scratch` may be filled and is thrown away."""

    def document(
        self,
        origin: str,
        text: str,
        label: str | None = None,
        excerpt: str | None = None,
        group: str | None = None,
    ) -> Document | Rejected:
        """A document of this source, or why the text is none. `origin` says where it stands; no two may be alike.
        `excerpt` is how the record begins, if that is not how the text does."""
        if not text or text.isspace():
            reason = "empty text"
        elif "\0" in text:
            reason = "text has NUL bytes"
        else:
            try:
                identifier = document_id(self.name, origin, text)
                f"{label}{group}".encode()
                return Document(identifier, text, self.name, origin, label, group)
            except UnicodeEncodeError as error:
                is_byte = "\udc80" <= error.object[error.start] <= "\udcff"  # as the surrogateescape handler leaves it
                reason = "not UTF-8" if is_byte else "text has a lone surrogate"
        return Rejected(self.name, origin, reason, excerpt=text[:EXCERPT_CHARS].strip() if excerpt is None else excerpt)

    def doubts(self, document: Document) -> Iterator[str]:
        """Signs that a document was misread, such as kept quotation marks: keys of DOUBTS in stages/ingest.py."""
        if "\n" not in document.text and ESCAPED_BREAK.search(document.text):
            yield "escaped line breaks"
