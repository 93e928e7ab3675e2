"""Files with one JSON object a line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pipeline.corpus.documents import Document, FilePart, Rejected
from pipeline.corpus.sources.base_local_files import LocalFiles
from pipeline.corpus.sources.base_records import Records


class Jsonl(LocalFiles, Records, type="jsonl"):
    """Files with one JSON object a line."""

    suffixes = (".jsonl", ".ndjson")

    def separator_in(self, path: Path) -> bytes | None:
        """The last byte of the file's line breaks."""
        from pipeline.corpus.readers.decompression import line_break

        return line_break(path)[-1:]

    def read_part(self, part: FilePart) -> Iterator[Document | Rejected]:
        from pipeline.corpus.readers.line_reader import read_jsonl

        return read_jsonl(self, part)
