"""Take text out of HTML."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from typing import Any

from pydantic import Field

from pipeline.corpus.steps.base_step import Step
from pipeline.features import UNICODE

# Names of elements, old ones too. What else stands in angle brackets is text: `List<String>`.
_BLOCK_NAMES = """
    address article aside blockquote body br caption center dd details dialog dir div dl dt fieldset figcaption
    figure footer form frameset h1 h2 h3 h4 h5 h6 head header hgroup hr html legend li main menu nav ol optgroup
    option p pre search section select summary table tbody template textarea tfoot thead title tr ul
"""
_OTHER_NAMES = """
    a abbr acronym applet area audio b base basefont bdi bdo big blink button canvas circle cite clippath code col
    colgroup data datalist defs del dfn ellipse em embed font frame g i iframe image img input ins kbd label line
    lineargradient link map mark marquee math meta meter nobr noframes noscript object output param path picture
    polygon polyline portal progress q rect rp rt ruby s samp script slot small source span stop strike strong
    style sub sup svg symbol time track tspan tt u use var video wbr
"""
_BLOCKS = frozenset(_BLOCK_NAMES.split())
_CELLS = frozenset(("td", "th"))
_ELEMENTS = _BLOCKS | _CELLS | frozenset(_OTHER_NAMES.split())

# Attributes in quotation marks may hold a `>`. Each scan ends at the next `<`, so time is in proportion to the text.
_TAG = re.compile(
    r"""<!doctype\b[^<>]*>|<(/?)([a-zA-Z][a-zA-Z0-9]*)(?:[\s/](?:[^<>"']|"[^"<]*+"|'[^'<]*+')*+)?>"""
    r"""|<(/?)([a-zA-Z][a-zA-Z0-9]*)(?:[\s/][^<>]*+)?>""",
    re.IGNORECASE,
)
_DEEPEST = 20  # `&amp;amp;amp;lt;b>`, `<<<b>b>b>`: what is deeper is no text, and would take quadratic time
_COMMENT = re.compile("<!--"), re.compile("-->")


class Html(Step, type="html"):
    """Take text out of HTML: no tags, comments, scripts, style sheets; entities become what they name.

    Tags of blocks become line feeds, the ends of cells tabs. It is done until nothing is left to do: what `&lt;b&gt;`
    spells is a tag too. Angle brackets around anything but an element of HTML are text.
    """

    keep: list[str] = Field(default_factory=list)
    """Elements whose tags stay as they are, such as `pre` and `code`."""

    def facts_of_key(self) -> Mapping[str, Any]:
        return UNICODE

    def apply(self, text: str) -> str:
        """The text alone."""
        for _ in range(_DEEPEST):
            before = text
            text = self._without_tags(html.unescape(text))
            if text == before:
                return text
        return text.replace("<", "").replace("&", "")

    def _without_tags(self, text: str) -> str:
        if "<" not in text:
            return text
        text = _cut(text, *_COMMENT)
        for name in ("script", "style"):
            if name not in self.keep:
                text = _cut(text, *_element(name))
        return _TAG.sub(self._in_place_of, text)

    def _in_place_of(self, tag: re.Match[str]) -> str:
        closing, name = tag[1] or tag[3], (tag[2] or tag[4] or "").lower()
        if name and (name not in _ELEMENTS or name in self.keep):
            return tag[0]
        if name in _CELLS:
            return "\t" if closing else ""
        return "\n" if name in _BLOCKS else ""


def _element(name: str) -> tuple[re.Pattern[str], re.Pattern[str]]:
    return re.compile(rf"<{name}(?=[\s/>])", re.IGNORECASE), re.compile(rf"</{name}(?:\s[^<>]*+)?>", re.IGNORECASE)


def _cut(text: str, opening: re.Pattern[str], closing: re.Pattern[str]) -> str:
    """The text without what stands from an opening to its closing. What is not closed stays."""
    kept = []
    done = 0
    while (start := opening.search(text, done)) and (stop := closing.search(text, start.end())):
        kept.append(text[done : start.start()])
        done = stop.end()
    return "".join([*kept, text[done:]])
