"""Arrow files."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.corpus.documents import Document, FilePart, Rejected
from pipeline.corpus.sources.base_local_files import LocalFiles
from pipeline.corpus.sources.base_records import Records


class Arrow(LocalFiles, Records, type="arrow"):
    """Arrow files: the file format (Feather 2) and the stream format."""

    suffixes = (".arrow", ".feather", ".ipc")
    is_text = False

    def read_part(self, part: FilePart) -> Iterator[Document | Rejected]:
        from pipeline.corpus.readers.columnar_reader import read_arrow

        return read_arrow(self, part)
