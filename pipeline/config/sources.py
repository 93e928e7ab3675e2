"""The sources of `ingest:`: where raw text comes from, and which of its fields matter."""

from __future__ import annotations

import re
import string
from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from pipeline.config.base import Alternatives, Runtime, Section

COMPRESSED = (".gz", ".zst", ".bz2", ".xz")
"""Suffixes of compressed files of text."""


class Source(Section):
    """What all sources have."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
    """Name of the source in documents, counts and evaluation."""

    weight: float = Field(default=1.0, gt=0, le=1000)
    """How often a document of this source stands in the training split, on average: 0.5 keeps half of them,
    2.0 repeats each once. Validation and test are never weighted."""

    max_documents: int | None = Field(default=None, ge=1)
    """Read no more than this many documents, from the first on. A source with a limit is read by one process."""

    max_bytes: int | None = Field(default=None, ge=1)
    """Stop before the document with which the texts of this source would have more UTF-8 bytes than this."""


class PythonDocsSource(Source):
    """The documentation inside every Python: docstrings of the standard library and pydoc's topics."""

    type: Literal["python_docs"]
    """About 2 MB of English technical prose that needs no download."""


class FilesSource(Source):
    """Local files."""

    suffixes: ClassVar[tuple[str, ...]]
    """Endings of the files that are read of a folder."""

    is_text: ClassVar[bool] = True
    """Whether the format is text, which may be compressed as a whole."""

    paths: list[str] = Field(min_length=1)
    """Files, folders (their files with the usual suffixes of the type, at any depth, hidden ones left out) and globs
    (`**` for any depth; what exists as it is written is no wildcard), relative to the working directory. Documents name
    the file they come from by this path, or, where it is absolute, by what lies below its last folder without
    wildcards. Text, csv, json and jsonl may be compressed: .gz, .zst, .bz2, .xz."""


class RecordsSource(Source):
    """Records with named fields, of which one or several make up a document."""

    alternatives: ClassVar[Alternatives] = (("text_field", "text_template"),)

    text_field: str = "text"
    """Name of the field (column) that holds a document's text."""

    text_template: str | None = Field(default=None, min_length=1)
    """Text made of several fields instead, such as "{title}\\n\\n{body}". Only plain names of fields may stand in
    braces; a brace itself is written twice: {{ or }}."""

    label_field: str | None = None
    """Name of the field that holds a document's label, if it has one. 1, 1.0 and "1" are one label; null, NaN and
    white space are none. Other numbers keep all their digits."""

    @model_validator(mode="after")
    def _template_is_plain(self) -> Self:
        _check_no_escape("text_template", self.text_template)
        if self.text_template is not None and not any(name for _, name in template_parts(self.text_template)):
            raise ValueError(f"text_template {self.text_template!r} names no field; write one in braces: {{title}}")
        return self

    def fields(self) -> list[str]:
        """Names of all fields that are read, each once."""
        label = [self.label_field] if self.label_field else []
        return list(dict.fromkeys([*self.text_fields(), *label]))

    def text_fields(self) -> list[str]:
        """Names of the fields that make up the text."""
        if self.text_template is None:
            return [self.text_field]
        return [name for _, name in template_parts(self.text_template) if name]


def _check_no_escape(name: str, text: str | None) -> None:
    """Raises ValueError for what YAML takes for a line break or a tab in double quotes alone."""
    if found := re.search(r"\\[nrt](?![a-z])", text or ""):
        raise ValueError(
            f"{name} has {found[0]} in two characters, not the one that they stand for; YAML reads them so outside of "
            f'double quotes: write {name}: "...{found[0]}..."'
        )


def template_parts(template: str) -> Iterator[tuple[str, str | None]]:
    """`(text, name of the field after it)` of a template's pieces.

    Raises ValueError for anything in braces but a plain name: attributes, indices, conversions and formats could
    reach into objects or ask for gigabytes of padding.
    """
    try:
        for text, name, form, conversion in string.Formatter().parse(template):
            if name is not None and (not name.strip() or form or conversion or any(c in ".[]{}" for c in name)):
                tail = f"{f'!{conversion}' if conversion else ''}{f':{form}' if form else ''}"
                raise ValueError(
                    f"text_template has {{{name}{tail}}}; only the plain name of a field may stand in braces"
                )
            yield text, name
    except ValueError as error:
        if str(error).startswith("text_template"):
            raise
        raise ValueError(f"text_template {template!r}: {error}; write a brace itself as {{{{ or }}}}") from None


class TextSource(FilesSource):
    """Plain text files in UTF-8."""

    suffixes = (".txt", ".text", ".md")

    type: Literal["text"]
    """Plain text."""

    separator: str | None = Field(default=None, min_length=1)
    """Text between two documents of a file, such as "\\n\\n". Null makes each file one document. A document may
    have 100 MB at most. A line break in it stands for those of the file, be they of Windows or not."""

    @model_validator(mode="after")
    def _separator_is_no_escape(self) -> Self:
        _check_no_escape("separator", self.separator)
        return self


class JsonlSource(FilesSource, RecordsSource):
    """Files with one JSON object a line."""

    suffixes = (".jsonl", ".ndjson")

    type: Literal["jsonl"]
    """JSON lines."""


class JsonSource(FilesSource, RecordsSource):
    """Files with one JSON value each: an array of records, or an object whose values are records."""

    suffixes = (".json",)

    type: Literal["json"]
    """JSON. An object whose first value is no object is itself one record."""

    field: str | None = None
    """Name of the outermost object's field that holds the records: `data` for {"data": [...]}."""


AUTO_QUOTES = "auto"


class CsvSource(FilesSource, RecordsSource):
    """Tables in text, one record a row; quoted fields may hold line breaks."""

    suffixes = (".csv", ".tsv", ".tab")

    type: Literal["csv"]
    """CSV and TSV."""

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


class ParquetSource(FilesSource, RecordsSource):
    """Parquet files."""

    suffixes = (".parquet",)
    is_text = False

    type: Literal["parquet"]
    """Parquet."""


class ArrowSource(FilesSource, RecordsSource):
    """Arrow files: the file format (Feather 2) and the stream format."""

    suffixes = (".arrow", ".feather", ".ipc")
    is_text = False

    type: Literal["arrow"]
    """Arrow."""


class HubSource(RecordsSource):
    """A dataset of the Hugging Face Hub, a local folder laid out like one, or what `save_to_disk` wrote."""

    type: Literal["hub"]
    """Read with the `datasets` library. Code in datasets is never run."""

    path: str = Field(min_length=1)
    """`owner/name` of a dataset of the hub, or a local folder."""

    config_name: str | None = None
    """Configuration (subset) of the dataset, where it has several."""

    split: str = Field(default="train", pattern=r"^\w+(\.\w+)*$")
    """Split of the dataset that is read. The pipeline makes its own train, validation and test of it."""

    revision: str | None = Field(default=None, pattern=r"^[0-9a-f]{40}$")
    """Commit of the dataset, 40 hexadecimal digits; required for the hub, for branches and tags move."""

    data_files: list[str] | None = Field(default=None, min_length=1)
    """Files of the dataset to read instead of those that its card names; `*` and `**` as in globs. In a local folder,
    what exists as it is written is no wildcard."""

    streaming: Annotated[bool, Runtime()] = False
    """Read while it arrives, rather than fetch and convert it whole first. The documents are the same."""


AnySource = Annotated[
    PythonDocsSource | TextSource | JsonlSource | JsonSource | CsvSource | ParquetSource | ArrowSource | HubSource,
    Field(discriminator="type"),
]
