"""Files of source code."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.corpus.documents import Document, FilePart, Rejected
from pipeline.corpus.readers.html_reader import whole_file
from pipeline.corpus.readers.records import MAX_RECORD_BYTES, decoded
from pipeline.corpus.sources.source_code import SourceCode


def read_code(source: SourceCode, part: FilePart) -> Iterator[Document | Rejected]:
    """A file's text; nothing of one that is blank, binary, or has too long a line."""
    data = whole_file(part, MAX_RECORD_BYTES)
    if b"\0" in data or not data.strip():
        return
    text = decoded(source, part.origin, data)
    if isinstance(text, Rejected):
        yield text
    elif text.strip() and max(map(len, text.splitlines())) <= source.max_line_chars:
        yield source.document(part.origin, text)
