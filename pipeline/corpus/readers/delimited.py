"""CSV and TSV: one record a row, read line by line."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from pipeline.config.sources import COMPRESSED, CsvSource
from pipeline.corpus.documents import Document
from pipeline.corpus.readers.lines import cut
from pipeline.corpus.readers.records import (
    EXCERPT_CHARS,
    MAX_RECORD_BYTES,
    Fields,
    Part,
    Rejected,
    UnreadableFileError,
    decoded,
)

MAX_FIELD_CHARS = 10_000_000
"""Longest field, and longest line in bytes: the csv module takes four to eight bytes a character while it reads."""

TAB_SUFFIXES = (".tsv", ".tab")


def read_csv(source: CsvSource, part: Part) -> Iterator[Document | Rejected]:
    """The documents of a table; a row is named by the line on which it begins."""
    fields = Fields(source)
    lines = _Lines(source, part)
    rows = csv.reader(
        lines,
        delimiter=source.delimiter or _delimiter(part.path),
        quotechar=source.quotechar,
        quoting=csv.QUOTE_NONE if source.quotechar is None else csv.QUOTE_MINIMAL,
        strict=True,
    )
    csv.field_size_limit(MAX_FIELD_CHARS)
    columns = source.column_names
    if columns is not None:
        _check_columns(fields, columns, part.origin)
    while True:
        # What follows a broken row is read again from the next line on.
        lines.begin()
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            lines.bad = lines.bad or lines.rejected("malformed row", str(error))
            row = []
        if columns is None:
            if lines.bad:
                raise UnreadableFileError(f"the header is unusable: {lines.bad.reason}", origin=lines.bad.origin)
            if row:
                columns = [name.strip() for name in row]
                _check_columns(fields, columns, part.origin)
        elif lines.bad:
            yield lines.bad
        elif len(row) == len(columns):
            values = {name: value or None for name, value in zip(columns, row, strict=True)}
            yield fields.read(lines.origin, values, lines.excerpt)
        elif row:
            yield lines.rejected("wrong number of fields", f"{len(row)} instead of {len(columns)}")


class _Lines:
    """The lines of a file as text, and which of those since `begin` was unusable, if any: the reader is given an
    empty one in its place."""

    def __init__(self, source: CsvSource, part: Part) -> None:
        self._source = source
        self._part = part
        self._lines = cut(part, b"\n")
        self.begin()

    def begin(self) -> None:
        """A new row begins with the next line."""
        self.origin = ""
        self.excerpt = ""
        self.bad: Rejected | None = None
        self._num_lines = self._num_bytes = 0

    def rejected(self, reason: str, detail: str = "") -> Rejected:
        """The rejection of the row in hand. One of several lines may have swallowed other rows: its bytes count."""
        lost_bytes = self._num_bytes if self._num_lines > 1 else 0
        return Rejected(self._source.name, self.origin, reason, detail, self.excerpt, lost_bytes)

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        number, _, data = next(self._lines)
        here = f"{self._part.origin}:{number}"
        self.origin = self.origin or here
        self._num_lines += 1
        size = MAX_RECORD_BYTES if data is None else len(data)
        self._num_bytes += size
        line: str | Rejected
        if data is None or size > MAX_FIELD_CHARS:
            line = Rejected(self._source.name, here, f"longer than {MAX_FIELD_CHARS:,} bytes")
        else:
            line = decoded(self._source, here, data)
        if isinstance(line, Rejected):
            self.bad = self.bad or line
            return "\n"
        self.excerpt = self.excerpt or line[:EXCERPT_CHARS].strip()
        return f"{line}\n"


def _check_columns(fields: Fields, columns: list[str], origin: str) -> None:
    if problem := fields.missing_from(columns):
        raise UnreadableFileError(*problem, origin=f"{origin}:1")


def _delimiter(path: Path) -> str:
    plain = path.with_suffix("") if path.suffix.lower() in COMPRESSED else path
    return "\t" if plain.suffix.lower() in TAB_SUFFIXES else ","
