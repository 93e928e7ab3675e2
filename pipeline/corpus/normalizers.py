"""Repair and unify text. Each operation is a function from text to text; a document records those that changed it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from functools import partial

import ftfy

from pipeline.config.corpus import NormalizeConfig
from pipeline.corpus.documents import Document

Operation = Callable[[str], str]

# Characters by which ftfy may have something to do on a line of ASCII: controls, carriage returns, entities.
_NEEDS_REPAIR = re.compile(r"[^\t\n -%'-~]|&[#A-Za-z]")
_PROSE = ftfy.TextFixerConfig(normalization=None)
_MARKUP = _PROSE._replace(unescape_html=False)
_LINE = re.compile(r"[^\n]*\n|[^\n]+")
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f]")
_LINE_ENDS = re.compile(r"\r\n?|[\x0b\x0c\x85\u2028\u2029]")
_BLANK_LINES = re.compile(r"\n{4,}")


class _Punctuation(dict[int, int | None]):
    """A table for `str.translate` that removes punctuation; it learns each character when it first meets it."""

    def __missing__(self, code: int) -> int | None:
        self[code] = None if unicodedata.category(chr(code)).startswith("P") else code
        return self[code]


_without_punctuation = _Punctuation()


def operations(section: NormalizeConfig) -> dict[str, Operation]:
    """The operations that a section asks for, by name, in the order in which they act."""
    chosen: dict[str, Operation] = {}
    if section.fix_unicode:
        chosen["fix_unicode"] = fix_unicode
    if section.unicode_form != "none":
        chosen[f"unicode_{section.unicode_form}"] = partial(unicodedata.normalize, section.unicode_form)
    if section.strip_control_characters:
        chosen["strip_control_characters"] = strip_control_characters
    if section.collapse_whitespace:
        chosen["collapse_whitespace"] = collapse_whitespace
    if section.lowercase:
        chosen["lowercase"] = str.lower
    if section.remove_punctuation:
        chosen["remove_punctuation"] = remove_punctuation
    return chosen


def normalize(document: Document, chosen: dict[str, Operation]) -> list[str]:
    """Apply operations to a document in place and return the names of those that changed it."""
    changed = []
    for name, operation in chosen.items():
        text = operation(document.text)
        if text != document.text:
            document.text = text
            changed.append(name)
    document.changes = [*document.changes, *(f"normalize:{name}" for name in changed)]
    return changed


def fix_unicode(text: str) -> str:
    """`ftfy.fix_text`, skipping lines on which it has nothing to do; the result is the same, several times faster.

    The Unicode form is left to `unicode_form`. Like ftfy, it leaves HTML entities alone from the first line on that
    has a `<`: that text is markup.
    """
    if _NEEDS_REPAIR.search(text) is None:
        return text
    fixed = []
    is_markup = False
    for line in _LINE.findall(text):
        is_markup = is_markup or "<" in line
        if _NEEDS_REPAIR.search(line):
            line = ftfy.fix_text(line, _MARKUP if is_markup else _PROSE)
        fixed.append(line)
    return "".join(fixed)


def strip_control_characters(text: str) -> str:
    """Line feeds for all other line ends and for page breaks, and no control characters but newline and tab."""
    return _CONTROL.sub("", _LINE_ENDS.sub("\n", text))


def collapse_whitespace(text: str) -> str:
    """No white space at line ends, no blank lines around the text, at most two in a row inside; indentation stays."""
    # Line by line: a regular expression for trailing space takes quadratic time on long runs of spaces.
    lines = "\n".join(line.rstrip() for line in text.split("\n"))
    return _BLANK_LINES.sub("\n\n\n", lines.strip("\n"))


def remove_punctuation(text: str) -> str:
    """Without the characters of Unicode's punctuation categories."""
    return text.translate(_without_punctuation)
