"""Parquet files."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pipeline.corpus.documents import Document, Part, Rejected
from pipeline.corpus.sources.base_local_files import LocalFiles
from pipeline.corpus.sources.base_records import Records


class Parquet(LocalFiles, Records):
    """Parquet files."""

    suffixes = (".parquet",)
    is_text = False

    type: Literal["parquet"] = "parquet"
    """Parquet."""

    def read_part(self, part: Part) -> Iterator[Document | Rejected]:
        from pipeline.corpus.readers.columnar_reader import read_parquet

        return read_parquet(self, part)
