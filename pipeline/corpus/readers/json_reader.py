"""One JSON value a file: an array or object of records, parsed record by record."""

from __future__ import annotations

import codecs
import json
import re
import reprlib
from collections.abc import Iterator
from typing import Any

from pipeline.corpus.documents import EXCERPT_CHARS, Document, FilePart, Rejected, UnreadableFileError
from pipeline.corpus.readers import records
from pipeline.corpus.readers.decompression import CHUNK_BYTES, chunks, open_file
from pipeline.corpus.readers.records import json_object
from pipeline.corpus.sources.json import Json

_SPACE = re.compile(r"[ \t\n\r]*")
_DECODER = json.JSONDecoder(object_pairs_hook=json_object)
_END = ""


def read_json_documents(source: Json, part: FilePart) -> Iterator[Document | Rejected]:
    """The documents of a file, named by their number, or by their key where they stand in an object.

    Raises UnreadableFileError from the first place on that is not JSON: where the next record begins is not known.
    """
    with open_file(part.path) as file:
        text = _Text(chunks(file, part))
        for name, value in _records(text, source.field):
            origin = f"{part.origin}#{name}"
            if isinstance(value, dict):
                yield source.read_record(origin, value)
            else:
                yield Rejected(source.name, origin, "not a JSON object", excerpt=reprlib.repr(value))
        if text.peek() != _END:
            raise UnreadableFileError(
                "more than one JSON value",
                "make them one array, or for one record a line say type: jsonl",
                origin=f"{part.origin}#2",
            )


def _records(text: _Text, field: str | None) -> Iterator[tuple[str, Any]]:
    opening = text.peek()
    if opening == "[" and field is None:
        yield from _array(text)
    elif opening == "{" and field is None:
        yield from _object(text)
    elif opening == "{":
        yield from _field(text, str(field))
    elif opening != _END:
        wanted = "an array or object of records" if field is None else f"an object with a field {field!r}"
        raise UnreadableFileError(f"not {wanted}", f"it begins with {opening!r}")


def _array(text: _Text) -> Iterator[tuple[str, Any]]:
    for number, _ in enumerate(_items(text, "[", "]"), start=1):
        yield str(number), text.value(f"record {number}")


def _object(text: _Text) -> Iterator[tuple[str, Any]]:
    """The values of an object of records, by key; or the object as the one record that it is."""
    own: list[tuple[str, Any]] | None = None
    for number, _ in enumerate(_items(text, "{", "}"), start=1):
        key, value = _key(text, number), text.value(f"record {number}")
        if number == 1 and not isinstance(value, dict):
            own = []
        if own is None:
            yield key[:EXCERPT_CHARS], value
        else:
            own.append((key, value))
    if own is not None:
        yield "1", json_object(own)


def _field(text: _Text, field: str) -> Iterator[tuple[str, Any]]:
    found = False
    for number, _ in enumerate(_items(text, "{", "}"), start=1):
        if _key(text, number) != field:
            text.value(f"member {number}")
            continue
        found = True
        opening = text.peek()
        if opening not in ("[", "{"):
            raise UnreadableFileError(f"field {field!r} is no array or object of records")
        yield from _array(text) if opening == "[" else _object(text)
    if not found:
        raise UnreadableFileError(f"no field {field!r}")


def _key(text: _Text, number: int) -> str:
    if text.peek() != '"':
        raise UnreadableFileError("not valid JSON", f"no key before member {number}")
    key = text.value(f"key {number}")
    text.expect(":")
    return str(key)


def _items(text: _Text, opening: str, closing: str) -> Iterator[None]:
    """One step for each item between two brackets; whoever takes the step reads the item."""
    text.expect(opening)
    if text.peek() == closing:
        text.expect(closing)
        return
    while True:
        yield
        if text.peek() == closing:
            text.expect(closing)
            return
        text.expect(",")


class _Text:
    """JSON text of which only the value in hand is in memory."""

    def __init__(self, source: Iterator[bytes]) -> None:
        self._source = source
        # Undecodable bytes become lone surrogates, by which the one record that they stand in is rejected.
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")("surrogateescape")
        self._buffer = ""
        self._at = 0
        self._is_over = False

    def _read(self, num_chars: int) -> bool:
        """Read about so many characters more; False at the end of the file."""
        pieces = [self._buffer[self._at :]]
        self._buffer, self._at = "", 0
        size = 0
        while size < num_chars and not self._is_over:
            chunk = next(self._source, None)
            self._is_over = chunk is None
            pieces.append(self._decoder.decode(chunk or b"", final=self._is_over))
            size += len(pieces[-1])
        self._buffer = "".join(pieces)
        return size > 0

    def peek(self) -> str:
        """The next character that is no white space, "" at the end."""
        while True:
            self._at = _SPACE.match(self._buffer, self._at).end()  # type: ignore[union-attr]
            if self._at < len(self._buffer):
                return self._buffer[self._at]
            if not self._read(1):
                return _END

    def expect(self, char: str) -> None:
        """Pass over the next character, which has to be this one."""
        found = self.peek()
        if found != char:
            what = repr(found) if found else "the end of the file"
            raise UnreadableFileError("not valid JSON", f"{what} where {char!r} belongs")
        self._at += 1

    def value(self, what: str) -> Any:
        """The next value, read as far as it goes."""
        self.peek()
        while True:
            held = len(self._buffer) - self._at
            try:
                value, end = _DECODER.raw_decode(self._buffer, self._at)
                size = end - self._at
                # A number at the edge of what was read may go on beyond it.
                if end < len(self._buffer) or isinstance(value, dict | list | str) or not self._read(1):
                    self._at += size
                    if size > CHUNK_BYTES:
                        self._buffer, self._at = self._buffer[self._at :], 0
                    return value
            except RecursionError:
                raise UnreadableFileError("not valid JSON", f"{what} is nested too deeply") from None
            except ValueError as error:
                if held > records.MAX_RECORD_BYTES:
                    raise UnreadableFileError(f"longer than {records.MAX_RECORD_BYTES:,} bytes", what) from None
                # As much again as there is already keeps the time linear when a record spans many chunks.
                if not self._read(min(held, records.MAX_RECORD_BYTES + 1 - held)):
                    raise UnreadableFileError("not valid JSON", f"{what}: {error}") from None
