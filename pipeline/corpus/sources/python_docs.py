"""The documentation inside every Python."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pipeline.corpus.docstrings import LABEL, library_files, read_python_docs
from pipeline.corpus.documents import Document, FilePart, Rejected
from pipeline.corpus.sources.base_source import Source


class PythonDocs(Source, type="python_docs"):
    """The documentation inside every Python: docstrings of the standard library and pydoc's topics."""

    def find_files(self) -> dict[Path, str]:
        """The library's files."""
        return {path: path.name for path in library_files()}

    def files_of_key(self) -> Mapping[str, Sequence[Path]]:
        """The library's files under one name."""
        return {LABEL: library_files()}

    def read(self, parts: Sequence[FilePart], scratch: Path) -> Iterator[Document | Rejected]:
        for name, text in read_python_docs(part.path for part in parts):
            yield self.document(name, text)
