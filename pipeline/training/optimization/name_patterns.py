"""Regular expressions of a configuration, searched for in the names of parameters within bounds."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

import regex

from pipeline.errors import ConfigError

LONGEST_SECONDS = 0.25
"""Of processor time for one name. Searching takes a few microseconds unless the expression backtracks without end."""


class Finder:
    """Tells in which names a regular expression is found. `setting` is its place in the configuration."""

    def __init__(self, setting: str, pattern: str) -> None:
        self._setting, self._pattern = setting, pattern
        self._compiled = _compiled(setting, pattern)

    def finds(self, name: str) -> bool:
        """Whether the expression is found anywhere in a name. Raises ConfigError when that takes too long."""
        try:
            return self._compiled.search(name, timeout=LONGEST_SECONDS) is not None
        except TimeoutError:
            raise ConfigError(
                f"{self._setting}: {self._pattern!r} takes far too long to search for in {name} (catastrophic "
                "backtracking); write it without a repetition inside a repetition"
            ) from None

    def finds_any(self, names: Iterable[str]) -> bool:
        """Whether it is found in one of the names."""
        return any(map(self.finds, names))


@cache
def _compiled(setting: str, pattern: str) -> Any:
    try:
        return regex.compile(pattern)
    except regex.error as error:
        raise ConfigError(f"{setting}: {pattern!r} is not a regular expression: {error}") from None
