"""Drop documents that are mostly numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from pipeline.corpus.filters.base_character_ratio import CharacterRatio

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pipeline.corpus.text_facts import CharacterKinds


class MaxDigitRatio(CharacterRatio, type="max_digit_ratio"):
    """Drop documents in which more than `value` of the visible characters are digits."""

    value: float = Field(default=0.3, ge=0, le=1)
    """Largest part of the visible characters that are digits."""

    reason: ClassVar[str] = "more digits than max_digit_ratio"

    def fails(self, kinds: CharacterKinds) -> NDArray[np.bool_]:
        return kinds.digits > self.value * kinds.visible
