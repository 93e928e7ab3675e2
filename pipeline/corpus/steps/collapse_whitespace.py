"""Remove trailing white space and extra blank lines."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from pipeline.corpus.steps.base_step import Step
from pipeline.features import UNICODE

_BLANK_LINES = re.compile(r"\n{4,}")


class CollapseWhitespace(Step, type="collapse_whitespace"):
    """Remove white space at line ends, outer blank lines, and more than two blank lines in a row. Indentation stays."""

    plain: ClassVar[bool] = True

    def facts_of_key(self) -> Mapping[str, Any]:
        return UNICODE

    def apply(self, text: str) -> str:
        """The text without it."""
        # Line by line: a regular expression for trailing space takes quadratic time on long runs of spaces.
        lines = "\n".join(map(str.rstrip, text.split("\n")))
        return _BLANK_LINES.sub("\n\n\n", lines.strip("\n"))
