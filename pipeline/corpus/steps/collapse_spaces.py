"""One space in place of several."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pipeline.corpus.steps.base_step import Step
from pipeline.features import UNICODE

_SPACES = re.compile(r"(?<=\S)[ \t\xa0\u1680\u2000-\u200a\u202f\u205f\u3000]{2,}")


class CollapseSpaces(Step, type="collapse_spaces"):
    """Write one space in place of several, of any width, and of tabs beside them, inside lines. Indentation stays.

    So does a tab alone, which separates columns.
    """

    def facts_of_key(self) -> Mapping[str, Any]:
        return UNICODE

    def apply(self, text: str) -> str:
        """The text with single spaces."""
        return _SPACES.sub(" ", text)
