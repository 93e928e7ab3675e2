"""Sources of records with named fields."""

from __future__ import annotations

import re
import string
from collections.abc import Iterator
from typing import ClassVar, Self

from pydantic import Field, model_validator

from pipeline.corpus.sources.source import Source
from pipeline.section import Alternatives


class Records(Source):
    """Records with named fields, of which one or several make up a document."""

    alternatives: ClassVar[Alternatives] = (("text_field", "text_template"),)

    text_field: str = "text"
    """Name of the field (column) that holds a document's text."""

    text_template: str | None = Field(default=None, min_length=1)
    """Text made of several fields instead, such as "{title}\\n\\n{body}". Only plain names of fields may stand in
    braces; a brace itself is written twice: {{ or }}."""

    label_field: str | None = None
    """Name of the field that holds a document's label, if it has one. 1, 1.0 and "1" are one label; null, NaN and
    white space are none. Other numbers keep all their digits."""

    @model_validator(mode="after")
    def _template_is_plain(self) -> Self:
        check_no_escape("text_template", self.text_template)
        if self.text_template is not None and not any(name for _, name in template_parts(self.text_template)):
            raise ValueError(f"text_template {self.text_template!r} names no field; write one in braces: {{title}}")
        return self

    def fields(self) -> list[str]:
        """Names of all fields that are read, each once."""
        label = [self.label_field] if self.label_field else []
        return list(dict.fromkeys([*self.text_fields(), *label]))

    def text_fields(self) -> list[str]:
        """Names of the fields that make up the text."""
        if self.text_template is None:
            return [self.text_field]
        return [name for _, name in template_parts(self.text_template) if name]


def check_no_escape(name: str, text: str | None) -> None:
    """Raises ValueError for what YAML takes for a line break or a tab in double quotes alone."""
    if found := re.search(r"\\[nrt](?![a-z])", text or ""):
        raise ValueError(
            f"{name} has {found[0]} in two characters, not the one that they stand for; YAML reads them so outside of "
            f'double quotes: write {name}: "...{found[0]}..."'
        )


def template_parts(template: str) -> Iterator[tuple[str, str | None]]:
    """`(text, name of the field after it)` of a template's pieces.

    Raises ValueError for anything in braces but a plain name: attributes, indices, conversions and formats could
    reach into objects or ask for gigabytes of padding.
    """
    try:
        for text, name, form, conversion in string.Formatter().parse(template):
            if name is not None and (not name.strip() or form or conversion or any(c in ".[]{}" for c in name)):
                tail = f"{f'!{conversion}' if conversion else ''}{f':{form}' if form else ''}"
                raise ValueError(
                    f"text_template has {{{name}{tail}}}; only the plain name of a field may stand in braces"
                )
            yield text, name
    except ValueError as error:
        if str(error).startswith("text_template"):
            raise
        raise ValueError(f"text_template {template!r}: {error}; write a brace itself as {{{{ or }}}}") from None
