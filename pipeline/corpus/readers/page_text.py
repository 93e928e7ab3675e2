"""The text of a page of HTML."""

from __future__ import annotations

import codecs
import logging
import re
from itertools import accumulate

from pipeline.corpus.sources.base_web_pages import WebPages

MAX_PAGE_BYTES = 20_000_000
"""Longest page that is parsed; the parser takes several times as much memory."""

_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}

# In XHTML an element may close itself; a parser of HTML would take all that follows for the content of these.
_CLOSED = re.compile(r"<(script|style|title|textarea|iframe|noscript|xmp|noframes)\b([^<>]*)/>", re.IGNORECASE)
_CONTAINER = re.compile(r"<(/?)(?:article|div)\b", re.IGNORECASE)
DEEPEST = 2_000
"""Containers inside of each other: the time in which resiliparse finds the main content is quadratic in them."""

_ESCAPE = b"\x1b"  # ISO 2022 is ASCII with escape sequences


def page_text(source: WebPages, page: str) -> str:
    """The text of a page, as the source wants it; empty where it has none."""
    if source.extractor == "none":
        return page
    if source.extractor == "trafilatura":
        return _by_trafilatura(page)
    return visible_text(page, source.main_content)


def visible_text(page: str, main_content: bool) -> str:
    """The text that a browser would show, in paragraphs and lines; without pictures' names and fields of forms. Of a
    page that is nested deeper than DEEPEST all of it is taken for main content."""
    from resiliparse.extract.html2text import extract_plain_text

    if page.lstrip()[:5] == "<?xml":
        page = _CLOSED.sub(r"<\1\2></\1>", page)
    main_content = main_content and not _is_too_deep(page)
    return extract_plain_text(page, preserve_formatting=True, main_content=main_content, alt_texts=False)


def _is_too_deep(page: str) -> bool:
    if page.count("<") <= DEEPEST:
        return False
    depths = accumulate(-1 if tag[1] else 1 for tag in _CONTAINER.finditer(page))
    return max(depths, default=0) > DEEPEST


def _by_trafilatura(page: str) -> str:
    import trafilatura

    logging.getLogger("trafilatura").setLevel(logging.CRITICAL)  # A page without text is no error.
    return trafilatura.extract(page, include_comments=False) or ""


def decoded_page(data: bytes, declared: str | None = None) -> str:
    """A page's bytes as text. What is UTF-8 is taken for it, whatever the server (`declared`) or the page declares;
    else their word counts, and without one the frequency of letters. What fits no set of characters is replaced."""
    from resiliparse.parse.encoding import bytes_to_str, detect_encoding, map_encoding_to_html5

    for mark, encoding in _MARKS.items():
        if data.startswith(mark):
            return data.decode(encoding, errors="replace")
    if not (_ESCAPE in data and data.isascii()):
        try:
            return data.decode()
        except UnicodeDecodeError:
            pass
    known = map_encoding_to_html5(declared, fallback_utf8=False) if declared else None
    return bytes_to_str(data, known or detect_encoding(data, from_html_meta=True) or "utf-8", errors="replace")
