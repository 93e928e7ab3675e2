"""Sources whose documents are the text of pages of HTML."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any, ClassVar, Literal, Self

from pydantic import model_validator

from pipeline.corpus.extras import installed_version
from pipeline.corpus.sources.base_source import Source
from pipeline.errors import ConfigError

NEEDED = {"resiliparse": ("resiliparse",), "trafilatura": ("resiliparse", "trafilatura", "lxml_html_clean")}
"""Modules that an extractor takes; resiliparse finds out the character set in any case."""


class WebPages(Source):
    """Pages of HTML, of which the text is taken."""

    libraries: ClassVar[tuple[str, ...]] = ("resiliparse",)

    extractor: Literal["resiliparse", "trafilatura", "none"] = "resiliparse"
    """What takes the text out of a page: resiliparse is ten times as fast, trafilatura leaves out more of what is no
    prose. With none a document is the page's HTML as it stands."""

    main_content: bool = True
    """Leave out menus, sidebars, footers and the like, as resiliparse finds them. False takes all text that is
    shown."""

    @model_validator(mode="after")
    def _extractor_has_the_choice(self) -> Self:
        if self.extractor != "resiliparse" and "main_content" in self.model_fields_set and not self.main_content:
            raise ValueError(f"main_content: false is for resiliparse, not for {self.extractor}; remove one of them")
        return self

    def facts_of_key(self) -> Mapping[str, Any]:
        """The versions of trafilatura and of its parser, where it is used."""
        if self.extractor != "trafilatura":
            return {}
        return {name: installed_version(name) for name in ("trafilatura", "lxml")}

    def check(self) -> None:
        """Raises ConfigError where the extractor is not installed."""
        check_web_extra(self.place, NEEDED.get(self.extractor, NEEDED["resiliparse"]))


def check_web_extra(place: str, modules: tuple[str, ...]) -> None:
    """Raises ConfigError where modules of the extra `web` are not installed."""
    if missing := [name for name in modules if find_spec(name) is None]:
        raise ConfigError(f"{place}: it needs {', '.join(missing)}; pip install 'descent-pipeline[web]'")
