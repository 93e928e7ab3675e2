"""What all readers share: limits, and the way from a record's fields to a document."""

from __future__ import annotations

import codecs
from collections import Counter
from collections.abc import Mapping
from typing import Any

from pipeline.corpus.documents import EXCERPT_CHARS, Document, Rejected
from pipeline.corpus.label_forms import LabelError, normal_label
from pipeline.corpus.sources import Source
from pipeline.corpus.sources.named_fields import Records, template_parts

MAX_RECORD_BYTES = 100_000_000
"""Longest record that is read; a file without the expected separators must not fill the memory."""

MAX_FIELDS, LONGEST_FIELD = 10, 40
"""Fields that are named where one is missing, and letters of their names."""


class BadRecordError(Exception):
    """A record is not usable, for the reason in the message."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.detail = detail


class RepeatingRecord(dict[str, Any]):
    """A JSON object in which keys stand more than once. Its values are the last ones."""

    repeated: frozenset[str]


def json_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of pairs of key and value; one that says of itself where a key is repeated."""
    made = dict(pairs)
    if len(made) == len(pairs):
        return made
    repeating = RepeatingRecord(made)
    repeating.repeated = frozenset(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
    return repeating


class Fields:
    """Makes documents of records, as the fields of a source say."""

    def __init__(self, source: Records) -> None:
        self.source = source
        self.names = source.fields()
        self._text_field = source.text_field
        self._template = None if source.text_template is None else list(template_parts(source.text_template))
        self._label_field = source.label_field

    def missing_from(self, columns: list[str]) -> tuple[str, str] | None:
        """What is wrong with the columns of a table, with details, or None when all fields are there, each once."""
        for name in self.names:
            if columns.count(name) != 1:
                reason = f"column {name!r} stands in it more than once" if name in columns else f"no column {name!r}"
                return reason, f"its columns are {', '.join(columns)}"[:EXCERPT_CHARS]
        return None

    def read(self, origin: str, record: Mapping[str, Any], excerpt: str = "") -> Document | Rejected:
        """The document of a record, or why there is none."""
        try:
            if isinstance(record, RepeatingRecord) and (twice := record.repeated.intersection(self.names)):
                raise BadRecordError(f"field {min(twice)!r} stands in it more than once")
            text = self._text(record)
            label = normal_label(record.get(self._label_field)) if self._label_field else None
        except (BadRecordError, LabelError) as error:
            return Rejected(self.source.name, origin, str(error), getattr(error, "detail", ""), excerpt)
        return self.source.document(origin, text, label, excerpt)

    def _text(self, record: Mapping[str, Any]) -> str:
        if self._template is None:
            return _as_text(record, self._text_field)
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


def _named(record: Mapping[str, Any]) -> str:
    names = [name[:LONGEST_FIELD] for name in record]
    return ", ".join(names[:MAX_FIELDS]) + (f" and {more} more" if (more := len(names) - MAX_FIELDS) > 0 else "")


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


def decoded(source: Source, origin: str, data: bytes | bytearray) -> str | Rejected:
    """The text of a record's bytes without a byte order mark, or why it is none. A bytearray is cleared."""
    try:
        text = data.decode("utf-8-sig" if data.startswith(codecs.BOM_UTF8) else "utf-8")
    except UnicodeDecodeError as error:
        excerpt = data[: 4 * EXCERPT_CHARS].decode(errors="replace")[:EXCERPT_CHARS].strip()
        return Rejected(source.name, origin, "not UTF-8", f"byte {error.start}", excerpt)
    if isinstance(data, bytearray):
        data.clear()
    return text


def too_long(source: Source, origin: str) -> Rejected:
    """The rejection of a record longer than MAX_RECORD_BYTES."""
    return Rejected(source.name, origin, f"longer than {MAX_RECORD_BYTES:,} bytes")
