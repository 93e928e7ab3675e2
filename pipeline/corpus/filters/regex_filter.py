"""Drop documents by a regular expression."""

from __future__ import annotations

from functools import cache
from typing import Any, ClassVar, Literal, Self

import regex
from pydantic import Field, model_validator

from pipeline.corpus.filters.base_text_filter import TextFilter
from pipeline.errors import ConfigError

_SECONDS = 60.0


class RegexFilter(TextFilter, type="regex_filter"):
    """Drop documents in which a regular expression of the package `regex` finds something, or too little."""

    libraries: ClassVar[tuple[str, ...]] = ("regex",)

    pattern: str = Field(min_length=1)
    """The regular expression."""

    drop: Literal["found", "not_found"] = "found"
    """Whether documents go in which it is found, or those in which it is not."""

    @model_validator(mode="after")
    def _can_be_read(self) -> Self:
        try:
            _compiled(self.pattern)
        except regex.error as error:
            raise ValueError(f"pattern {self.pattern!r}: {error}") from None
        return self

    def reason_of(self, text: str) -> str | None:
        """Raises ConfigError when it takes more than a minute."""
        try:
            found = _compiled(self.pattern).search(text, timeout=_SECONDS) is not None
        except TimeoutError:
            raise ConfigError(
                f"regex_filter: pattern {self.pattern!r} takes more than {_SECONDS:.0f} s on a document of {len(text)} "
                "characters; write one without repetitions in repetitions"
            ) from None
        return self.drop.replace("_", " ") + " by regex_filter" if found == (self.drop == "found") else None


@cache
def _compiled(pattern: str) -> Any:
    return regex.compile(pattern)
