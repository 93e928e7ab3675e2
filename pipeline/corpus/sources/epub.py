"""Books in EPUB."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pipeline.corpus.documents import Document, FilePart, Rejected
from pipeline.corpus.sources.base_local_files import LocalFiles
from pipeline.corpus.sources.base_web_pages import NEEDED, check_web_extra


class Epub(LocalFiles, type="epub"):
    """Books in EPUB 2 and 3, of which all text that is shown is taken in the order of reading, without the table of
    contents."""

    libraries = ("resiliparse",)
    suffixes = (".epub",)
    is_text = False

    each: Literal["chapter", "book"] = "chapter"
    """What is a document: a file of the book, which mostly is a chapter, or the whole book."""

    def check(self) -> None:
        """Raises ConfigError where the extractor is not installed."""
        check_web_extra(self.place, NEEDED["resiliparse"])

    def read_part(self, part: FilePart) -> Iterator[Document | Rejected]:
        from pipeline.corpus.readers.epub_reader import read_epub

        return read_epub(self, part)
