"""Repair text that was decoded wrongly."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any, ClassVar

from pipeline.corpus.steps.base_step import Step
from pipeline.features import UNICODE

# Characters by which ftfy may have something to do on a line of ASCII: controls, carriage returns, entities.
_NEEDS_REPAIR = re.compile(r"[^\t\n -%'-~]|&[#A-Za-z]")
_LINE = re.compile(r"[^\n]*\n|[^\n]+")


class FixUnicode(Step, type="fix_unicode"):
    """Repair mojibake, HTML entities, ligatures, curly quotes and other damage with ftfy.

    Lines on which ftfy has nothing to do are skipped: the result is the same, several times faster. The Unicode form is
    left to `unicode_form`. Like ftfy, it leaves HTML entities alone from the first line on that has a `<`: that text is
    markup.
    """

    libraries: ClassVar[tuple[str, ...]] = ("ftfy",)

    def facts_of_key(self) -> Mapping[str, Any]:
        return UNICODE

    def apply(self, text: str) -> str:
        """The repaired text."""
        if _NEEDS_REPAIR.search(text) is None:
            return text
        import ftfy

        fixed = []
        is_markup = False
        for line in _LINE.findall(text):
            is_markup = is_markup or "<" in line
            if _NEEDS_REPAIR.search(line):
                line = ftfy.fix_text(line, _fixer(is_markup))
            fixed.append(line)
        return "".join(fixed)


@cache
def _fixer(is_markup: bool) -> Any:
    import ftfy

    prose = ftfy.TextFixerConfig(normalization=None)
    return prose._replace(unescape_html=False) if is_markup else prose
