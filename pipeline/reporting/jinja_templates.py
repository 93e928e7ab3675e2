"""The templates of report and model card."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from pipeline.reporting import formats

TEMPLATES = Path(__file__).with_name("templates")


def render(name: str, **values: Any) -> Markup:
    """A template as HTML. What would be HTML in a value becomes text."""
    return Markup(_environment(escapes=True).get_template(name).render(**values))


def page_style() -> Markup:
    """The style sheets of a page."""
    return Markup("".join((TEMPLATES / name).read_text(encoding="utf-8") for name in ("page.css", "anatomy.css")))


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
