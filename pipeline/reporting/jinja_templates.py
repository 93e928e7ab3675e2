"""The templates of report and model card."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from pipeline.reporting import formats

TEMPLATES = Path(__file__).with_name("templates")


def template(name: str, *, escapes: bool) -> Template:
    """A template, whose filters are the `formats`. `escapes` turns what would be HTML in a value into text."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=escapes,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for write in (formats.count, formats.size, formats.duration, formats.real, formats.percent):
        environment.filters[write.__name__] = write
    return environment.get_template(name)
