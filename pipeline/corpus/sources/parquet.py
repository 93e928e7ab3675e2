"""Parquet files."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.corpus.documents import Document, FilePart, Rejected
from pipeline.corpus.sources.base_local_files import LocalFiles
from pipeline.corpus.sources.base_records import Records


class Parquet(LocalFiles, Records, type="parquet"):
    """Parquet files."""

    suffixes = (".parquet",)
    is_text = False

    def read_part(self, part: FilePart) -> Iterator[Document | Rejected]:
        from pipeline.corpus.readers.columnar_reader import read_parquet

        return read_parquet(self, part)
