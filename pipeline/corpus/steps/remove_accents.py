"""Letters without accents."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Any, ClassVar

from pipeline.corpus.steps.base_step import Step
from pipeline.features import UNICODE


class RemoveAccents(Step, type="remove_accents"):
    """Remove accents and other marks that stand on a letter (Unicode category Mn): `é` becomes `e`.

    Letters that Unicode does not take apart, such as `ø` and `ł`, stay. Vowel signs of many Indian and all Semitic
    scripts are such marks too. The result is in the form NFC.
    """

    plain: ClassVar[bool] = True

    def facts_of_key(self) -> Mapping[str, Any]:
        return UNICODE

    def apply(self, text: str) -> str:
        """The text without them; text of ASCII is returned at once."""
        if text.isascii():
            return text
        apart = unicodedata.normalize("NFD", text)
        return unicodedata.normalize("NFC", "".join(char for char in apart if unicodedata.category(char) != "Mn"))
