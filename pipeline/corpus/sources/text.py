"""Plain text files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from pipeline.corpus.documents import Document, FilePart, Rejected
from pipeline.corpus.sources.base_local_files import LocalFiles
from pipeline.corpus.sources.base_records import check_no_escape

LONG_BYTES = 1_000_000
"""What no text between separators is expected to reach."""


class Text(LocalFiles, type="text"):
    """Plain text files in UTF-8."""

    suffixes = (".txt", ".text", ".md")

    separator: str | None = Field(default=None, min_length=1)
    """Text between two documents of a file, such as "\\n\\n". Null makes each file one document. A document may
    have 100 MB at most. A line break in it stands for those of the file, be they of Windows or not."""

    @model_validator(mode="after")
    def _separator_is_no_escape(self) -> Self:
        check_no_escape("separator", self.separator)
        return self

    def separator_in(self, path: Path) -> bytes | None:
        """The separator, with the line breaks of the file."""
        from pipeline.corpus.readers.line_reader import with_breaks_of

        return None if self.separator is None else with_breaks_of(path, self.separator)

    def read_part(self, part: FilePart) -> Iterator[Document | Rejected]:
        from pipeline.corpus.readers.line_reader import read_text

        return read_text(self, part)

    def doubts(self, document: Document) -> Iterator[str]:
        """A text between separators that is as long as a book."""
        if self.separator is not None and document.num_bytes > LONG_BYTES:
            yield "uncut"
        yield from super().doubts(document)
