"""Remove control characters; one kind of line end."""

from __future__ import annotations

import re
from typing import ClassVar

from pipeline.corpus.steps.base_step import Step

_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f]")
_EITHER = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")
_LINE_ENDS = re.compile(r"\r\n?|[\x0b\x0c\x85\u2028\u2029]")


class StripControlCharacters(Step, type="strip_control_characters"):
    """Remove control characters other than newline and tab; page breaks and foreign line ends become newlines."""

    plain: ClassVar[bool] = True

    def apply(self, text: str) -> str:
        """The text with line feeds for all line ends."""
        return _CONTROL.sub("", _LINE_ENDS.sub("\n", text)) if _EITHER.search(text) else text
