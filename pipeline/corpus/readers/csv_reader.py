"""CSV and TSV: one record a row, read line by line."""

from __future__ import annotations

import csv
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from pipeline.corpus.documents import EXCERPT_CHARS, Document, FilePart, Rejected, UnreadableFileError
from pipeline.corpus.readers.decompression import line_break
from pipeline.corpus.readers.line_reader import cut
from pipeline.corpus.readers.records import MAX_RECORD_BYTES, decoded
from pipeline.corpus.source_files import COMPRESSED
from pipeline.corpus.sources.csv import AUTO_QUOTES, Csv

MAX_FIELD_CHARS = 10_000_000
"""Longest field, and longest line in bytes: the csv module takes four to eight bytes a character while it reads."""

HEAD_LINES = 20
TAB_SUFFIXES = (".tsv", ".tab")
DELIMITERS = (",", "\t", ";", "|")
QUOTES = ('"', "'")
_EXCEL_HINT = re.compile(r"sep=(.)\r?")


def read_csv(source: Csv, part: FilePart) -> Iterator[Document | Rejected]:
    """The documents of a table; a row is named by the line on which it begins.

    Raises UnreadableFileError where the first row does not name the fields of the source.
    """
    csv.field_size_limit(MAX_FIELD_CHARS)
    table = _Table(source, part)
    for line in table.lines:
        if table.is_excel_hint(line):
            continue
        row = table.row(line)
        if isinstance(row, Rejected) and table.columns is None:
            why = row.reason + (table.other_dialect(line.text) or f": {row.detail}")
            raise UnreadableFileError("the header is unusable", why, row.origin)
        if isinstance(row, Rejected):
            yield row
        elif row and table.columns is None:
            table.begin(row)
        elif row and table.is_header(row):
            yield table.rejected(line, "repeats the header")
        elif row and len(row) != table.num_columns:
            yield table.rejected(line, "wrong number of fields", table.count_of(row, line))
        elif row:
            values = {name: value or None for name, value in zip(table.columns or (), row, strict=True)}
            yield source.read_record(line.origin, values, line.excerpt)


def kept_quotes(source: Csv, document: Document) -> str | None:
    """The quotation mark around a document's text that may be a quote which was kept; None without one."""
    if source.quotechar != AUTO_QUOTES:
        return None
    is_tab = (source.delimiter or _delimiter(Path(document.origin.rpartition(":")[0]))) == "\t"
    marks = QUOTES if is_tab else ("'",)
    return next((mark for mark in marks if _is_quoted(document.text, mark)), None)


@dataclass(slots=True)
class _Line:
    """A line without its line feed, and why it is unusable, if it is."""

    origin: str
    text: str
    num_bytes: int
    bad: Rejected | None = None

    @property
    def excerpt(self) -> str:
        return self.text[:EXCERPT_CHARS].strip()


class _Lines:
    """The lines of a file, which can be put back to be read again."""

    def __init__(self, source: Csv, part: FilePart) -> None:
        self._source, self._part = source, part
        self._lines = cut(part, line_break(part.path)[-1:])
        self._returned: deque[_Line] = deque()

    def put_back(self, lines: list[_Line]) -> None:
        self._returned.extendleft(reversed(lines))

    def __iter__(self) -> Iterator[_Line]:
        return self

    def __next__(self) -> _Line:
        if self._returned:
            return self._returned.popleft()
        number, _, data = next(self._lines)
        origin = f"{self._part.origin}:{number}"
        size = MAX_RECORD_BYTES if data is None else len(data)
        if data is None or size > MAX_FIELD_CHARS:
            reason = f"longer than {MAX_FIELD_CHARS:,} bytes"
            return _Line(origin, "", size, Rejected(self._source.name, origin, reason))
        text = decoded(self._source, origin, data)
        if isinstance(text, Rejected):
            return _Line(origin, "", size, text)
        return _Line(origin, text, size)


class _Table:
    """Makes rows of the lines of a file.

    `may_quote` is set for tab-separated files, which most tools write without quoting. There a quotation mark may be
    text: a row is read as it stands, unless only quoting makes a row of it.
    """

    def __init__(self, source: Csv, part: FilePart) -> None:
        self.lines = _Lines(source, part)
        self.columns: list[str] | None = None
        self.num_columns = 0
        self._source, self._part = source, part
        self._is_first = True
        self._is_spaced = False  # Whether spaces follow the delimiters.
        self._is_quoted = False  # Whether a row was seen that makes sense with quoting alone.
        self._text_columns: list[int] = []
        self._set_delimiter(source.delimiter or _delimiter(part.path))
        if source.column_names is not None:
            self._name_columns(source.column_names)

    def _set_delimiter(self, delimiter: str) -> None:
        self.delimiter = delimiter
        is_open = self._source.quotechar == AUTO_QUOTES and self._source.escapechar is None
        self.may_quote = is_open and delimiter == "\t"
        self.quotechar = QUOTES[0] if self._source.quotechar == AUTO_QUOTES else self._source.quotechar
        self._special = tuple(filter(None, (self.quotechar, self._source.escapechar, "\r")))

    def is_excel_hint(self, line: _Line) -> bool:
        """Whether a first line tells Excel the delimiter, as it tells us."""
        found = _EXCEL_HINT.fullmatch(line.text) if self._is_first and not self._source.delimiter else None
        if found:
            self._is_first = False
            self._set_delimiter(found[1])
        return found is not None

    def is_header(self, row: list[str]) -> bool:
        """Whether a row repeats the names of the columns."""
        assert self.columns is not None
        return row[0].strip() == self.columns[0] and [name.strip() for name in row] == self.columns

    def begin(self, header: list[str]) -> None:
        """Name the columns by a header. Raises UnreadableFileError where it lacks one that is to be read."""
        self._is_spaced = any(name.startswith(" ") for name in header[1:])
        self._name_columns([name.strip() for name in header])

    def _name_columns(self, names: list[str]) -> None:
        if problem := self._source.missing_from(names):
            reason, detail = problem
            header = self.delimiter.join(names)
            raise UnreadableFileError(reason, detail + self.other_dialect(header), origin=f"{self._part.origin}:1")
        self.columns, self.num_columns = names, len(names)
        self._text_columns = [names.index(name) for name in self._source.text_fields()]
        head = list(islice(self.lines, HEAD_LINES))
        self.lines.put_back(head)
        lines = [line.text.removesuffix("\r") for line in head if line.text.strip()]
        if self._source.column_names and self._source.delimiter is None and self.delimiter != "\t":
            self._check_delimiter(lines)
        if self.may_quote:
            self._check_quotes(lines)

    def other_dialect(self, header: str) -> str:
        """The settings with which a header has the fields that are to be read, if there are such."""
        for delimiter in DELIMITERS:
            for quotechar in QUOTES:
                names = [name.strip() for name in header.split(delimiter)]
                is_quoted = all(_is_quoted(name, quotechar) for name in names)
                if self._source.missing_from([name[1:-1] for name in names] if is_quoted else names) is None:
                    settings = [f"delimiter: {_yaml(delimiter)}"] if delimiter != self.delimiter else []
                    settings += [f"quotechar: {_yaml(quotechar)}"] if is_quoted and quotechar != self.quotechar else []
                    return f"; set {' and '.join(settings)}" if settings else ""
        return ""

    def _check_delimiter(self, lines: list[str]) -> None:
        """Raises UnreadableFileError where the first rows of a file without header could be cut at two characters."""
        for other in DELIMITERS:
            both = (self.delimiter, other)
            is_either = all(len(line.split(each)) == self.num_columns for line in lines for each in both)
            if other != self.delimiter and len(lines) > 1 < self.num_columns and is_either:
                detail = f"{both[0]!r} and {both[1]!r} both cut its rows into {self.num_columns} fields; set delimiter"
                raise UnreadableFileError("no certain delimiter", detail, origin=f"{self._part.origin}:1")

    def _check_quotes(self, lines: list[str]) -> None:
        """Take quotation marks for quotes where the first rows begin and end in them. Raises UnreadableFileError where
        all first texts stand in them and nothing tells what they are."""
        rows = [row for line in lines if len(row := line.split(self.delimiter)) == self.num_columns]
        if self._quotes_all():
            self.may_quote = False
        elif len(rows) > 1 and any(all(_is_quoted(row[index]) for row in rows) for index in self._text_columns):
            detail = "its first texts all stand in them; set quotechar: '\"', or null where they are text"
            raise UnreadableFileError("no certain quotation marks", detail, origin=f"{self._part.origin}:1")

    def _quotes_all(self) -> bool:
        """Whether the first rows make sense with every field quoted."""
        seen: list[_Line] = []
        is_quoted = self.num_columns > 1
        while is_quoted and len(seen) < HEAD_LINES and (line := next(self.lines, None)) is not None:
            row, taken = self._parsed(line)
            seen += taken
            ends = taken[0].text[:1] + taken[-1].text.removesuffix("\r")[-1:]
            is_row = len(row) == self.num_columns and not isinstance(row, str)
            is_quoted = not ends.strip() or (is_row and ends == 2 * QUOTES[0])
        self.lines.put_back(seen)
        return is_quoted and bool(seen)

    def rejected(self, line: _Line, reason: str, detail: str = "", lost: int = 0) -> Rejected:
        return Rejected(self._source.name, line.origin, reason, detail, line.excerpt, lost)

    def count_of(self, row: list[str], line: _Line) -> str:
        """How many fields a row has, and with which setting it would have as many as it should."""
        count = f"{len(row)} instead of {self.num_columns}"
        for delimiter in DELIMITERS:
            if len(row) == 1 < self.num_columns == len(line.text.split(delimiter)):
                return f"{count}; set delimiter: {_yaml(delimiter)} if that stands between them"
        for mark in QUOTES:
            if mark != self.quotechar and len(_fields_in(line.text, self.delimiter, mark)) == self.num_columns:
                return f"{count}; set quotechar: {_yaml(mark)} if that stands around fields"
        return count

    def row(self, line: _Line) -> list[str] | Rejected:
        """The fields of the row that begins with a line, none for a blank one; takes further lines as needed."""
        if line.bad:
            return line.bad
        self._is_first = False
        text = line.text.removesuffix("\r")
        if not any(char in text for char in self._special):
            return text.split(self.delimiter) if text and not text.isspace() else []
        if self.may_quote and self.columns is None:
            self.may_quote = not any(map(_is_quoted, text.split(self.delimiter)))
        if self.may_quote and "\r" not in text:
            return self._row_as_it_stands(line, text.split(self.delimiter))
        row, taken = self._parsed(line)
        inner = taken[1:]
        if isinstance(row, str):
            if self._holds_rows(taken, is_broken=True):
                self.lines.put_back(inner)
                inner = []
            lost = sum(each.num_bytes for each in taken) if inner else 0
            return self.rejected(line, "malformed row", row + self._advice(line), lost)
        if self._source.quotechar == AUTO_QUOTES and self._holds_rows(taken):
            self.lines.put_back(inner)
            return self._swallowing(line, inner)
        return row

    def _row_as_it_stands(self, line: _Line, fields: list[str]) -> list[str] | Rejected:
        """The row of a line in a file where a quotation mark may be text."""
        if not any(field.startswith(QUOTES[0]) for field in fields):
            return fields
        row, taken = self._parsed(line)
        is_row = len(fields) == self.num_columns
        if isinstance(row, str) or (self.columns is not None and len(row) != self.num_columns):
            self.lines.put_back(taken[1:])
            why = f"{row}{self._advice(line)}" if isinstance(row, str) else ""
            return fields if is_row or not why else self.rejected(line, "malformed row", why)
        if len(taken) == 1 and not is_row:
            return row
        if len(taken) == 1:  # Only who quotes doubles the marks inside.
            self._is_quoted |= any('""' in field for field in fields)
            return [quoted if '""' in field else field for field, quoted in zip(fields, row, strict=True)]
        if self.num_columns > 1 and not self._holds_rows(taken):
            self._is_quoted = True
            return row
        self.lines.put_back(taken[1:])
        is_doubtful = self.num_columns == 1 or self._is_quoted
        return fields if is_row and not is_doubtful else self._swallowing(line, taken[1:])

    def _parsed(self, line: _Line) -> tuple[list[str] | str, list[_Line]]:
        """The fields of the row that begins with a line, or why it is none, and the lines that were read for it."""
        if f"{self.delimiter} {self.quotechar}" in line.text:
            row, taken = self._parsed_with(line, skipinitialspace=True)
            if len(row) == self.num_columns and not isinstance(row, str):
                return row, taken
            self.lines.put_back(taken[1:])
        return self._parsed_with(line, skipinitialspace=False)

    def _parsed_with(self, line: _Line, skipinitialspace: bool) -> tuple[list[str] | str, list[_Line]]:
        taken = [line]

        def texts() -> Iterator[str]:
            yield f"{line.text}\n"
            for more in self.lines:
                taken.append(more)
                if more.bad:
                    raise csv.Error(f"{more.origin}: {more.bad.reason}")
                yield f"{more.text}\n"

        reader = csv.reader(
            texts(),
            delimiter=self.delimiter,
            quotechar=self.quotechar,
            quoting=csv.QUOTE_NONE if self.quotechar is None else csv.QUOTE_MINIMAL,
            escapechar=self._source.escapechar,
            skipinitialspace=skipinitialspace,
            strict=True,
        )
        try:
            return next(reader), taken
        except csv.Error as error:
            return "a carriage return in it" if "new-line" in str(error) else str(error), taken

    def _holds_rows(self, taken: list[_Line], is_broken: bool = False) -> bool:
        """Whether the lines of one row look like rows themselves, so that a mark of text was taken for a quote."""
        inner = taken[1:-1]
        if len(taken) == 1 or self.num_columns < 2 or self.quotechar is None:
            return False
        if not inner:
            return self._is_row(taken[0]) and self._is_row(taken[1], without_end=is_broken)
        is_likely = len(inner) > 1 or self._is_row(taken[0])
        return is_likely and 2 * sum(map(self._is_row, inner)) >= len(inner)

    def _is_row(self, line: _Line, without_end: bool = False) -> bool:
        """Whether a line looks like a row; with `without_end`, only if no field ends in a quote that begins in none."""
        fields = line.text.removesuffix("\r").split(self.delimiter)
        mark = self.quotechar or ""
        if without_end and any(mark in field and not field.startswith(mark) for field in fields):
            return False
        if len(fields) != self.num_columns and mark in line.text:
            fields = _fields_in(line.text, self.delimiter, self.quotechar)
        if len(fields) != self.num_columns:
            return False
        if self.delimiter == "\t":  # Code is indented by tabs.
            return bool(fields[0]) and all(fields[index].strip() for index in self._text_columns)
        # Prose has a space after its commas, and few of them: an empty field is the end of a line of it.
        is_spaced = any(field.startswith(" ") for field in fields[1:])
        return is_spaced <= self._is_spaced and (
            self.num_columns > 3 or all(field.strip(f" {mark}") for field in fields)
        )

    def _swallowing(self, line: _Line, others: list[_Line]) -> Rejected:
        mark = _yaml(QUOTES[0])
        detail = f"{len(others):,} lines after this one; set quotechar: null where they are text, {mark} where not"
        return self.rejected(line, "a quoted field holds what looks like whole rows", detail)

    def _advice(self, line: _Line) -> str:
        if f"\\{self.quotechar}" in line.text and self._source.escapechar is None:
            return "; set escapechar: '\\' if a backslash stands before quotation marks in a field"
        is_quoted = self.quotechar is not None and self.quotechar in line.text
        return "; set quotechar: null if quotation marks are text" if is_quoted else ""


def _fields_in(text: str, delimiter: str, quotechar: str | None) -> list[str]:
    """The fields of a row that is one line, none where it is not well formed."""
    try:
        return next(csv.reader([text], delimiter=delimiter, quotechar=quotechar, strict=True))
    except csv.Error:
        return []


def _is_quoted(field: str, quotechar: str = QUOTES[0]) -> bool:
    return len(field) > 1 and field[0] == field[-1] == quotechar


def _yaml(char: str) -> str:
    return {"\t": '"\\t"', "'": '"\'"'}.get(char, f"'{char}'")


def _delimiter(path: Path) -> str:
    plain = path.with_suffix("") if path.suffix.lower() in COMPRESSED else path
    return "\t" if plain.suffix.lower() in TAB_SUFFIXES else ","
