"""Unicode normalization (NFC, NFD, NFKC, NFKD)."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pipeline.corpus.steps.base_step import Step
from pipeline.features import UNICODE


class UnicodeForm(Step, type="unicode_form"):
    """Bring text into a Unicode normalization form (Unicode Standard Annex 15)."""

    plain: ClassVar[bool] = True

    form: Literal["NFC", "NFD", "NFKC", "NFKD"] = "NFC"
    """C composes characters, D takes them apart; K also replaces compatibility characters, such as ligatures."""

    @property
    def label(self) -> str:
        """The form belongs to the name."""
        return f"unicode_{self.form}"

    def facts_of_key(self) -> Mapping[str, Any]:
        return UNICODE

    def apply(self, text: str) -> str:
        """The text in this form."""
        return unicodedata.normalize(self.form, text)
