"""Files with one JSON value each."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.corpus.documents import Document, FilePart, Rejected
from pipeline.corpus.sources.base_local_files import LocalFiles
from pipeline.corpus.sources.base_records import Records


class Json(LocalFiles, Records, type="json"):
    """Files with one JSON value each: an array of records, or an object whose values are records. An
    object whose first value is no object is itself one record."""

    suffixes = (".json",)

    field: str | None = None
    """Name of the outermost object's field that holds the records: `data` for {"data": [...]}."""

    def read_part(self, part: FilePart) -> Iterator[Document | Rejected]:
        from pipeline.corpus.readers.json_reader import read_json_documents

        return read_json_documents(self, part)
