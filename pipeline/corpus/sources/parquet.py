"""Parquet files."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from pipeline.corpus.sources.local_files import LocalFiles
from pipeline.corpus.sources.named_fields import Records

if TYPE_CHECKING:
    from pipeline.corpus.documents import Document
    from pipeline.corpus.readers.records import Part, Rejected


class Parquet(LocalFiles, Records):
    """Parquet files."""

    suffixes = (".parquet",)
    is_text = False

    type: Literal["parquet"] = "parquet"
    """Parquet."""

    def read_part(self, part: Part) -> Iterator[Document | Rejected]:
        """See `LocalFiles`."""
        from pipeline.corpus.readers.tables import read_parquet

        return read_parquet(self, part)
