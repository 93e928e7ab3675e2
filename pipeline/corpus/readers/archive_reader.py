"""Pages and texts of web archives."""

from __future__ import annotations

import io
from collections.abc import Iterator
from email.message import Message

from pipeline.corpus.documents import Document, FilePart, Rejected
from pipeline.corpus.readers import page_text
from pipeline.corpus.readers.archive_records import ArchiveRecord, DamagedRecord, archive_records
from pipeline.corpus.sources.web_archive import WebArchive

PAGES, TEXTS = ("text/html", "application/xhtml+xml"), ("text/plain",)


def read_archive(source: WebArchive, part: FilePart) -> Iterator[Document | Rejected]:
    """The documents of a part of an archive, named by their URL and where their record stands in the file."""
    for record in archive_records(part):
        if isinstance(record, DamagedRecord):
            place = f"{part.origin}@{record.place}"
            yield Rejected(source.name, place, "damaged record", record.detail, lost_bytes=record.num_bytes)
            continue
        origin = f"{record.url} {part.origin}@{record.place}"
        made = _document(source, origin, record)
        if made is not None:
            yield made


def _document(source: WebArchive, origin: str, record: ArchiveRecord) -> Document | Rejected | None:
    """The document of a record; None where it is another kind of content, or has no text."""
    content_type, body = record.content_type, record.block
    if content_type.lower().startswith("application/http"):
        answer = _answer(record.head + record.block)
        if answer is None:
            return Rejected(source.name, origin, "not an answer by HTTP")
        status, content_type, body = answer
        if not 200 <= status < 300:
            return None
    message = Message()
    message["Content-Type"] = content_type
    kind = message.get_content_type() if content_type else ""
    if kind not in PAGES + TEXTS:
        return None
    if not record.is_whole or len(body) > page_text.MAX_PAGE_BYTES:
        return Rejected(source.name, origin, f"longer than {page_text.MAX_PAGE_BYTES:,} bytes")
    declared = None if record.kind == "conversion" else message.get_param("charset")
    text = page_text.decoded_page(body, declared if isinstance(declared, str) else None)
    if kind in PAGES:
        text = page_text.page_text(source, text)
    return source.document(origin, text) if text.strip() else None


def _answer(record: bytes) -> tuple[int, str, bytes] | None:
    """Status, type and body of a server's answer, unpacked; None where it is none. A body that is not packed as its
    header says is taken as it is: many archives keep it unpacked."""
    from fastwarc.warc import ArchiveIterator

    for decoding in ("all", "none"):
        try:
            answer = next(iter(ArchiveIterator(io.BytesIO(record), auto_decode=decoding, stream_detect=False)))
            if answer.http_headers is None or answer.http_headers.status_code is None:
                return None
            body = answer.reader.read(page_text.MAX_PAGE_BYTES + 1)
        except (OSError, StopIteration):
            continue
        return answer.http_headers.status_code, answer.http_headers.get("Content-Type") or "", body
    return None
