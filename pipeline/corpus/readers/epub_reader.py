"""Books in EPUB: a zip archive with a list of pages of XHTML in the order of reading."""

from __future__ import annotations

import errno
import lzma
import posixpath
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import unquote
from xml.etree import ElementTree

from pipeline.corpus.documents import Document, FilePart, Rejected, UnreadableFileError
from pipeline.corpus.readers import page_text
from pipeline.corpus.readers.records import MAX_RECORD_BYTES
from pipeline.corpus.sources.epub import Epub

CONTAINER, ENCRYPTION = "META-INF/container.xml", "META-INF/encryption.xml"
MAX_LIST_BYTES = 5_000_000
"""Longest list of a book's parts."""

PAGE_TYPES = ("application/xhtml+xml", "text/html")
FONT_ALGORITHMS = ("http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC")
"""By these only fonts are made unreadable."""


BAD_ZIP = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    ValueError,
    OverflowError,
    LookupError,
    NotImplementedError,
    RuntimeError,
)
"""What zipfile raises where an archive is damaged, or encrypted."""


class _BadPartError(Exception):
    """A file of a book is not usable, for the reason in the message."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.detail = detail


def read_epub(source: Epub, part: FilePart) -> Iterator[Document | Rejected]:
    """The chapters of a book, numbered in the order of reading, or the whole book. Pages without text, such as covers,
    are passed over. Raises UnreadableFileError for what is no book, and for one that is encrypted."""
    try:
        with _damage():
            book = zipfile.ZipFile(part.path)
    except _BadPartError as error:
        raise UnreadableFileError("not a whole .epub file", error.detail) from None
    with book:
        pages = _pages(book)
        if sum(book.getinfo(name).file_size for name in pages if name in book.NameToInfo) > MAX_RECORD_BYTES:
            raise UnreadableFileError("grows too much", f"more than {MAX_RECORD_BYTES:,} bytes of pages: a bomb?")
        chapters: list[str] = []
        for number, name in enumerate(pages, start=1):
            origin = f"{part.origin}#{number}"
            try:
                text = page_text.visible_text(_page(book, name), main_content=False)
            except _BadPartError as error:
                yield Rejected(source.name, origin, str(error), f"{name}: {error.detail}".removesuffix(": "))
                if source.each == "book":
                    return
                continue
            if text.strip():
                chapters.append(text)
                if source.each == "chapter":
                    yield source.document(origin, chapters.pop())
        if source.each == "book":
            yield source.document(part.origin, "\n\n".join(chapters))


def _pages(book: zipfile.ZipFile) -> list[str]:
    """Names of the pages in the order of reading, each once, but for the table of contents."""
    encrypted = _encrypted(book)
    package = _package_name(book)
    root = _xml(book, package)
    items = {item.get("id"): item for item in root.iterfind(".//{*}manifest/{*}item")}
    pages: dict[str, None] = {}
    for reference in root.iterfind(".//{*}spine/{*}itemref"):
        item = items.get(reference.get("idref"))
        if item is None or item.get("media-type") not in PAGE_TYPES or "nav" in (item.get("properties") or "").split():
            continue
        name = posixpath.normpath(posixpath.join(posixpath.dirname(package), unquote(item.get("href") or "")))
        if name in encrypted:
            raise UnreadableFileError("encrypted", "a seller's copy protection; take a book without it")
        pages[name] = None
    if not pages:
        raise UnreadableFileError("no pages in its list", package)
    return list(pages)


def _package_name(book: zipfile.ZipFile) -> str:
    found = _xml(book, CONTAINER).find(".//{*}rootfile[@full-path]")
    if found is None:
        raise UnreadableFileError("not an .epub file", f"{CONTAINER} names no list of its parts")
    return str(found.get("full-path"))


def _encrypted(book: zipfile.ZipFile) -> set[str]:
    """Names of the files that are encrypted, other than fonts."""
    if ENCRYPTION not in book.NameToInfo:
        return set()
    found = set()
    for data in _xml(book, ENCRYPTION).iterfind(".//{*}EncryptedData"):
        method, reference = data.find("{*}EncryptionMethod"), data.find(".//{*}CipherReference")
        if reference is not None and (method is None or method.get("Algorithm") not in FONT_ALGORITHMS):
            found.add(posixpath.normpath(unquote(reference.get("URI") or "")))
    return found


def _xml(book: zipfile.ZipFile, name: str) -> ElementTree.Element:
    try:
        data = _content(book, name, MAX_LIST_BYTES)
        if b"<!ENTITY" in data:  # by which a small file can grow without limit
            raise _BadPartError("declares entities")
        return ElementTree.fromstring(data)
    except (_BadPartError, ElementTree.ParseError) as error:
        why = getattr(error, "detail", "") or error
        raise UnreadableFileError("not a whole .epub file", f"{name}: {why}") from None


def _page(book: zipfile.ZipFile, name: str) -> str:
    return page_text.decoded_page(_content(book, name, page_text.MAX_PAGE_BYTES))


def _content(book: zipfile.ZipFile, name: str, most: int) -> bytes:
    """A file of the book. Names are looked up in the archive alone and never joined to a path of this machine."""
    if name not in book.NameToInfo:
        raise _BadPartError("a page of its list is not in it")
    with _damage(), book.open(name) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise _BadPartError(f"longer than {most:,} bytes")
    return data


@contextmanager
def _damage() -> Iterator[None]:
    """Raise as _BadPartError what zipfile says of a damaged archive; a place before its beginning is one too."""
    try:
        yield
    except (*BAD_ZIP, OSError) as error:
        if getattr(error, "errno", None) not in (None, errno.EINVAL):
            raise
        raise _BadPartError("a damaged page", " ".join(str(error).split()) or type(error).__name__) from None
