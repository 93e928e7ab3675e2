"""Replace what a regular expression finds."""

from __future__ import annotations

from functools import cache
from typing import Any, ClassVar, Self

import regex
from pydantic import model_validator

from pipeline.corpus.steps.base_step import Step
from pipeline.errors import ConfigError

_MOST_TIMES = 100
_SECONDS = 60.0


class RegexStep(Step, type="regex_step"):
    """Replace what a regular expression finds, until it finds nothing that changes.

    Its syntax is that of the package `regex`, which is that of Python and more (`\\p{Greek}`).
    """

    libraries: ClassVar[tuple[str, ...]] = ("regex",)

    pattern: str
    """The regular expression."""

    replacement: str = ""
    """What stands in the place of each match; `\\1` is what the first group found."""

    idempotent: bool = True
    """Whether to replace until nothing changes, so that doing it again does nothing. `false`: once."""

    @model_validator(mode="after")
    def _can_be_done(self) -> Self:
        try:
            again = _compiled(self.pattern).sub(self.replacement, self.replacement, timeout=_SECONDS)
            _compiled(f"{self.pattern}|").sub(self.replacement, "")  # finds something, so that the groups are looked up
        except (regex.error, IndexError, TimeoutError) as error:
            raise ValueError(f"pattern {self.pattern!r} with replacement {self.replacement!r}: {error}") from None
        if self.idempotent and "\\" not in self.replacement and again != self.replacement:
            raise ValueError(
                f"pattern {self.pattern!r} finds its replacement {self.replacement!r} again; change one of them, or "
                "set idempotent: false to replace once"
            )
        return self

    def apply(self, text: str) -> str:
        """The text with all matches replaced.

        Raises ConfigError when that takes more than a minute, or never ends.
        """
        longest = 10 * len(text) + 1_000
        for _ in range(_MOST_TIMES):
            before = text
            try:
                text = _compiled(self.pattern).sub(self.replacement, before, timeout=_SECONDS)
            except TimeoutError:
                raise ConfigError(
                    f"regex_step: pattern {self.pattern!r} takes more than {_SECONDS:.0f} s on a document of "
                    f"{len(text)} characters; write one without repetitions in repetitions"
                ) from None
            if text == before or not self.idempotent:
                return text
            if len(text) > longest:
                break
        raise ConfigError(
            f"regex_step: pattern {self.pattern!r} finds what it replaced again and again; change the "
            "replacement, or set idempotent: false to replace once"
        )


@cache
def _compiled(pattern: str) -> Any:
    return regex.compile(pattern)
