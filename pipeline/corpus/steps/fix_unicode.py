"""Repair text that was decoded wrongly."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, ClassVar

from pipeline.corpus.steps.base_step import Step
from pipeline.features import UNICODE

ENTITY = re.compile(r"&#?[0-9A-Za-z]{1,24};")
"""What ftfy takes for an HTML entity."""

# Patterns that begin with one set of characters are several times as fast as those that begin with alternatives.
_NEEDS_REPAIR = re.compile(rf"[^\t\n -%'-~](?:(?<!&)|{ENTITY.pattern[1:]})")
"""A character other than printable ASCII, or an entity."""

_FOREIGN = r"[^\x00-\x7f\u3000-\ud7ff]"
MAY_BE_MOJIBAKE = re.compile(rf"{_FOREIGN}(?:{_FOREIGN}|(?<=[\x80-\x9fÂÃŒœ]))")
"""A text without it is not mojibake to `ftfy.badness.is_bad`, which takes many times as long to say so.

All of its patterns have two neighbours that are not ASCII and not of the writing of East Asia, or one of these
characters.
"""

_LONGEST_SEGMENT = 1_000_000  # ftfy's max_decode_length: it repairs longer lines in pieces


class FixUnicode(Step, type="fix_unicode"):
    """Repair mojibake, HTML entities, ligatures, curly quotes and other damage with ftfy.

    The result is that of `ftfy.fix_text`, many times faster: only the lines are looked at that have something to
    repair, and of them only those that may be mojibake go through all of ftfy. The Unicode form is left to
    `unicode_form`. Like ftfy, it leaves HTML entities alone from the first line on that has a `<`: that text is markup.
    """

    plain: ClassVar[bool] = True
    libraries: ClassVar[tuple[str, ...]] = ("ftfy",)

    def facts_of_key(self) -> Mapping[str, Any]:
        return UNICODE

    def apply(self, text: str) -> str:
        """The repaired text."""
        found = _NEEDS_REPAIR.search(text)
        if found is None:
            return text
        pieces = []
        done = 0
        markup = text.find("<") if "<" in text else len(text)
        while found is not None:
            start, stop = _segment(text, found.start())
            pieces += [text[done:start], _repaired(text[start:stop], has_entities=stop <= markup)]
            done = stop
            found = _NEEDS_REPAIR.search(text, done)
        return "".join([*pieces, text[done:]])


def _segment(text: str, position: int) -> tuple[int, int]:
    """Start and end of what ftfy repairs as one: a line with its line feed, or a piece of a very long one."""
    start = text.rfind("\n", 0, position) + 1
    stop = text.find("\n", position) + 1 or len(text)
    start += (position - start) // _LONGEST_SEGMENT * _LONGEST_SEGMENT
    return start, min(stop, start + _LONGEST_SEGMENT)


def _repaired(text: str, has_entities: bool) -> str:
    """What `ftfy.fix_and_explain` makes of a segment: its fixers in its order, until nothing changes."""
    while True:
        if (has_entities and "&" in text and ENTITY.search(text)) or (MAY_BE_MOJIBAKE.search(text) and _is_bad()(text)):
            import ftfy

            config = ftfy.TextFixerConfig(unescape_html=has_entities, normalization=None, explain=False)
            return ftfy.fix_and_explain(text, config).text
        before = text
        if _any_fixer().search(text):
            for changes, fix in _fixers():
                if changes.search(text):
                    text = fix(text)
        if text == before:
            return text


@cache
def _is_bad() -> Callable[[str], bool]:
    from ftfy.badness import is_bad

    return is_bad


@cache
def _any_fixer() -> re.Pattern[str]:
    """The characters without which no fixer does anything."""
    return re.compile("[" + "".join(changes.pattern[1:-1] for changes, _ in _fixers()) + "]")


@cache
def _fixers() -> tuple[tuple[re.Pattern[str], Callable[[str], str]], ...]:
    """ftfy's fixers of single characters, in its order, each with the characters without which it does nothing.
    `fix_c1_controls` is not among them: a text with such a character is mojibake."""
    from ftfy import chardata, fixes

    def any_of(codes: dict[int, object]) -> str:
        return "".join(re.escape(chr(code)) for code in codes)

    characters = {
        fixes.fix_latin_ligatures: any_of(chardata.LIGATURES),
        fixes.fix_character_width: any_of(chardata.WIDTH_MAP),
        fixes.uncurl_quotes: "\u02bc\u2018-\u201f",
        fixes.fix_line_breaks: "\r\u2028\u2029",
        fixes.fix_surrogates: "\ud800-\udfff",
        fixes.remove_terminal_escapes: "\x1b",
        fixes.remove_control_chars: any_of(chardata.CONTROL_CHARS),
    }
    return tuple((re.compile(f"[{changes}]"), fix) for fix, changes in characters.items())
