"""Drop documents that are hardly made of letters."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from pipeline.corpus.filters.base_character_ratio import CharacterRatio

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pipeline.corpus.text_facts import CharacterKinds


class MinAlphabeticRatio(CharacterRatio, type="min_alphabetic_ratio"):
    """Drop documents in which fewer than `value` of the visible characters are letters, of any script, with marks."""

    value: float = Field(default=0.5, ge=0, le=1)
    """Smallest part of the visible characters that are letters."""

    reason: ClassVar[str] = "fewer letters than min_alphabetic_ratio"

    def fails(self, kinds: CharacterKinds) -> NDArray[np.bool_]:
        return kinds.letters < self.value * kinds.visible
