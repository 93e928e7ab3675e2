"""The templates of report and model card."""

from __future__ import annotations

import re
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from pipeline.reporting import formats

TEMPLATES = Path(__file__).with_name("templates")

_CARDS = {"table.cards": 960, "table.few": 580}
"""Tables whose rows become cards, and the widths in pixels up to which they do."""

_TABLE = re.compile(r'(?<=<table class=")(?:cards|few)\b.*?</table>', re.DOTALL)
_HEAD_CELL, _ROW = re.compile(r"<th[^>]*>(.*?)</th>", re.DOTALL), re.compile(r"<tr.*?</tr>", re.DOTALL)
_CELL = re.compile(r"<t[dh]\b(?=[^>]*>(.))", re.DOTALL)


def render(name: str, **values: Any) -> Markup:
    """A template as HTML. What would be HTML in a value becomes text."""
    return Markup(_environment(escapes=True).get_template(name).render(**values))


def page_style() -> Markup:
    """The style sheets of a page."""
    page, anatomy, cards = (
        (TEMPLATES / f"{name}.css").read_text(encoding="utf-8") for name in ("page", "anatomy", "cards")
    )
    narrow = "@media screen {{ @container (max-width: {}px) {{\n{}}} }}\n"
    return Markup(
        page + anatomy + "".join(narrow.format(most, cards.replace("TABLE", css)) for css, most in _CARDS.items())
    )


def with_labels(page: str) -> str:
    """A page whose cells of tables say what column they are of, for where a row is drawn as a card."""
    return _TABLE.sub(_labelled, page)


def _labelled(found: re.Match[str]) -> str:
    head, foot, body = found[0].partition("</thead>")
    names = [re.sub("<.*?>", "", name) for name in _HEAD_CELL.findall(head)]

    def row(cells: re.Match[str]) -> str:
        places = count()

        def cell(start: re.Match[str]) -> str:
            place = next(places)
            is_title = start[0] == "<th" and not start[1].isdigit()
            return start[0] if is_title or not names[place] else f'{start[0]} data-label="{names[place]}"'

        return _CELL.sub(cell, cells[0])

    return head + foot + _ROW.sub(row, body)


def render_text(name: str, **values: Any) -> str:
    """A template as text, with values as they are."""
    return _environment(escapes=False).get_template(name).render(**values)


@cache
def _environment(*, escapes: bool) -> Environment:
    """Its filters are the `formats`."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=escapes,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for write in (formats.count, formats.size, formats.duration, formats.real, formats.percent):
        environment.filters[write.__name__] = write
    return environment
