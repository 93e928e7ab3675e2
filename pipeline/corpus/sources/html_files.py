"""Files of HTML."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.corpus.documents import Document, FilePart, Rejected
from pipeline.corpus.sources.base_local_files import LocalFiles
from pipeline.corpus.sources.base_web_pages import WebPages


class HtmlFiles(LocalFiles, WebPages, type="html"):
    """Files of HTML, each of which is one document, in any character set that it declares or that can be told."""

    suffixes = (".html", ".htm", ".xhtml")

    def read_part(self, part: FilePart) -> Iterator[Document | Rejected]:
        from pipeline.corpus.readers.html_reader import read_html

        return read_html(self, part)
