"""Tables in text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

from pydantic import Field, model_validator

from pipeline.corpus.documents import Document, FilePart, Rejected
from pipeline.corpus.sources.base_local_files import LocalFiles
from pipeline.corpus.sources.base_records import Records

AUTO_QUOTES = "auto"


class Csv(LocalFiles, Records, type="csv"):
    """Tables in text, such as CSV and TSV, one record a row; quoted fields may hold line breaks."""

    suffixes = (".csv", ".tsv", ".tab")

    delimiter: str | None = Field(default=None, min_length=1, max_length=1)
    """Character between two fields. Null takes a tab for .tsv and .tab, a comma for the rest."""

    quotechar: str | None = AUTO_QUOTES
    """Character around a field that holds delimiters or line breaks. Null takes every character as it stands. `auto` is
    a double quotation mark, and a quoted field that holds what looks like whole rows is rejected; in tab-separated
    files, which most tools write without quoting, the mark counts as text wherever a row can be read so, unless the
    header is quoted or marks inside of a field are doubled. A character that is given is trusted."""

    escapechar: str | None = Field(default=None, min_length=1, max_length=1)
    """Character before one that is to be taken as it stands, such as a backslash before a quotation mark. Null where
    quotation marks inside of a field are doubled."""

    column_names: list[str] | None = Field(default=None, min_length=1)
    """Names of the columns of files without a header. Null takes them from the first row of each file."""

    @model_validator(mode="after")
    def _characters_differ(self) -> Self:
        chosen = {name: getattr(self, name) for name in ("delimiter", "quotechar", "escapechar")}
        chosen = {name: char for name, char in chosen.items() if char not in (None, AUTO_QUOTES)}
        for name, char in chosen.items():
            if len(char) != 1 or char in "\r\n\0" or (char == " " and name != "delimiter"):
                others = ", auto or null" if name == "quotechar" else ""
                raise ValueError(f"{name} is {char!r}, which cannot be one; give one visible character{others}")
        if len(set(chosen.values())) < len(chosen):
            raise ValueError(f"{' and '.join(chosen)} must differ, but are {' and '.join(map(repr, chosen.values()))}")
        return self

    def read_part(self, part: FilePart) -> Iterator[Document | Rejected]:
        from pipeline.corpus.readers.csv_reader import read_csv

        return read_csv(self, part)

    def doubts(self, document: Document) -> Iterator[str]:
        """A text that stands in quotation marks which were not taken for such."""
        from pipeline.corpus.readers.csv_reader import kept_quotes

        if mark := kept_quotes(self, document):
            yield "in quotation marks" if mark == '"' else "in single quotation marks"
        yield from super().doubts(document)
