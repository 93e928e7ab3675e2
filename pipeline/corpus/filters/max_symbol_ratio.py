"""Drop documents that are mostly punctuation and symbols."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from pipeline.corpus.filters.base_character_ratio import CharacterRatio

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pipeline.corpus.text_facts import CharacterKinds


class MaxSymbolRatio(CharacterRatio, type="max_symbol_ratio"):
    """Drop documents in which more than `value` of the visible characters are punctuation or symbols."""

    value: float = Field(default=0.4, ge=0, le=1)
    """Largest part of the visible characters that are punctuation or symbols."""

    reason: ClassVar[str] = "more symbols than max_symbol_ratio"

    def fails(self, kinds: CharacterKinds) -> NDArray[np.bool_]:
        return kinds.symbols > self.value * kinds.visible
