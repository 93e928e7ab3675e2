"""Remove punctuation."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Any

from pipeline.corpus.steps.base_step import Step
from pipeline.features import UNICODE


class RemovePunctuation(Step, type="remove_punctuation"):
    """Remove punctuation (Unicode categories P)."""

    def facts_of_key(self) -> Mapping[str, Any]:
        return UNICODE

    def apply(self, text: str) -> str:
        """The text without it."""
        return text.translate(_without_punctuation)


class _Punctuation(dict[int, int | None]):
    """A table for `str.translate` that removes punctuation; it learns each character when it first meets it."""

    def __missing__(self, code: int) -> int | None:
        self[code] = None if unicodedata.category(chr(code)).startswith("P") else code
        return self[code]


_without_punctuation = _Punctuation()
