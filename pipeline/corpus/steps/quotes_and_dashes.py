"""Straight quotation marks, plain dashes."""

from __future__ import annotations

import re
from typing import ClassVar

from pipeline.corpus.steps.base_step import Step

_PLAIN = {
    **dict.fromkeys("\u2018\u2019\u201a\u201b\u02bc", "'"),
    **dict.fromkeys("\u201c\u201d\u201e\u201f", '"'),
    **dict.fromkeys("\u2010\u2011\u2012\u2013\u2212", "-"),  # hyphens, figure dash, en dash, minus sign
    **dict.fromkeys("\u2014\u2015", "--"),  # em dash, horizontal bar
    "\u2026": "...",
}
_TYPOGRAPHIC = re.compile(f"[{''.join(_PLAIN)}]")


class QuotesAndDashes(Step, type="quotes_and_dashes"):
    """Write quotation marks, apostrophes, dashes and ellipses with the characters of a keyboard.

    Curly ones become straight, an em dash two hyphens, other dashes and the minus sign one, an ellipsis three points.
    Guillemets stay.
    """

    plain: ClassVar[bool] = True

    def apply(self, text: str) -> str:
        """The text so written."""
        return _TYPOGRAPHIC.sub(lambda found: _PLAIN[found[0]], text)
