"""Sources of records with named fields."""

from __future__ import annotations

import re
import string
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, ClassVar, Self

from pydantic import Field, model_validator

from pipeline.corpus.documents import EXCERPT_CHARS, Document, Rejected
from pipeline.corpus.label_forms import LabelError, normal_label
from pipeline.corpus.readers.records import RepeatingRecord
from pipeline.corpus.sources.base_source import Source
from pipeline.section import Alternatives

MAX_FIELDS, LONGEST_FIELD = 10, 40
"""Fields that are named where one is missing, and letters of their names."""


class BadRecordError(Exception):
    """A record is not usable, for the reason in the message."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.detail = detail


class Records(Source):
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

    group_field: str | None = None
    """Name of the field that says to what a document belongs, such as a patient or a book, if it has one. Its values
    are read as labels are."""

    @model_validator(mode="after")
    def _template_is_plain(self) -> Self:
        check_no_escape("text_template", self.text_template)
        if self.text_template is not None and not any(name for _, name in template_parts(self.text_template)):
            raise ValueError(f"text_template {self.text_template!r} names no field; write one in braces: {{title}}")
        return self

    def fields(self) -> list[str]:
        """Names of all fields that are read, each once."""
        others = filter(None, (self.label_field, self.group_field))
        return list(dict.fromkeys([*self.text_fields(), *others]))

    def text_fields(self) -> list[str]:
        """Names of the fields that make up the text."""
        return [self.text_field] if self.text_template is None else [name for _, name in self._template if name]

    def missing_from(self, columns: list[str]) -> tuple[str, str] | None:
        """What is wrong with the columns of a table, with details, or None when all fields are there, each once."""
        for name in self.fields():
            if columns.count(name) != 1:
                reason = f"column {name!r} stands in it more than once" if name in columns else f"no column {name!r}"
                return reason, f"its columns are {', '.join(columns)}"[:EXCERPT_CHARS]
        return None

    def read_record(self, origin: str, record: Mapping[str, Any], excerpt: str = "") -> Document | Rejected:
        """The document of a record, or why there is none."""
        try:
            if isinstance(record, RepeatingRecord) and (twice := record.repeated.intersection(self.fields())):
                raise BadRecordError(f"field {min(twice)!r} stands in it more than once")
            text = self._text_of(record)
            label = normal_label(record.get(self.label_field)) if self.label_field else None
            group = normal_label(record.get(self.group_field), "group") if self.group_field else None
        except (BadRecordError, LabelError) as error:
            return Rejected(self.name, origin, str(error), getattr(error, "detail", ""), excerpt)
        return self.document(origin, text, label, excerpt, group)

    @cached_property
    def _template(self) -> list[tuple[str, str | None]]:
        return list(template_parts(self.text_template or ""))

    def _text_of(self, record: Mapping[str, Any]) -> str:
        if self.text_template is None:
            return _as_text(record, self.text_field)
        pieces = []
        has_content = False
        for text, name in self._template:
            pieces.append(text)
            if name is not None:
                value = record.get(name)
                is_number = isinstance(value, int | float) and not isinstance(value, bool) and value == value
                pieces.append(str(value) if is_number else _as_text(record, name))
                has_content = has_content or bool(pieces[-1].strip())
        return "".join(pieces) if has_content else ""


def _as_text(record: Mapping[str, Any], name: str) -> str:
    value = record.get(name)
    if value is None or value != value:  # NaN, by which many tools say that a value is missing
        if name in record:
            raise BadRecordError(f"field {name!r} is null")
        raise BadRecordError(f"no field {name!r}", f"it has {_named(record)}" if record else "it has none")
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise BadRecordError("not UTF-8") from None
    if not isinstance(value, str):
        raise BadRecordError(f"field {name!r} is not text")
    return value


def _named(record: Mapping[str, Any]) -> str:
    names = [name[:LONGEST_FIELD] for name in record]
    return ", ".join(names[:MAX_FIELDS]) + (f" and {more} more" if (more := len(names) - MAX_FIELDS) > 0 else "")


def check_no_escape(name: str, text: str | None) -> None:
    """Raises ValueError for a line break or tab written as two characters, which YAML reads in double quotes only."""
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
