"""Files of HTML, and others that are read whole."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.corpus.documents import Document, FilePart, Rejected, UnreadableFileError
from pipeline.corpus.readers import page_text
from pipeline.corpus.readers.decompression import CHUNK_BYTES, open_file
from pipeline.corpus.sources.html_files import HtmlFiles


def read_html(source: HtmlFiles, part: FilePart) -> Iterator[Document | Rejected]:
    """The text of a file of HTML."""
    page = page_text.decoded_page(whole_file(part, page_text.MAX_PAGE_BYTES))
    yield source.document(part.origin, page_text.page_text(source, page), excerpt="")


def whole_file(part: FilePart, most: int) -> bytes:
    """The content of a file, decompressed. Raises UnreadableFileError for one of more than `most` bytes."""
    content = bytearray()
    with open_file(part.path) as file:
        while chunk := file.read(CHUNK_BYTES):
            content += chunk
            if len(content) > most:
                raise UnreadableFileError(f"longer than {most:,} bytes", "leave it out, or cut it")
    return bytes(content)
