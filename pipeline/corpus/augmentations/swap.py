"""Exchange neighbouring words."""

from __future__ import annotations

from pydantic import Field

from pipeline.corpus.augmentations.base_augmentation import Augmentation, Draw
from pipeline.corpus.edits import Edit
from pipeline.corpus.prose_words import in_case_of, prose_words


class Swap(Augmentation, type="swap"):
    """Exchange neighbouring plain words with nothing but spaces between them (random swap of EDA, Wei and Zou 2019)."""

    probability: float = Field(default=0.05, ge=0, le=1)
    """Chance of each plain word to change places with the next one."""

    def edits(self, text: str, draw: Draw) -> list[Edit]:
        """Two edits for each exchange. Capital letters stay where they are; no word moves twice."""
        generator = draw.random()
        edits: list[Edit] = []
        before = None
        for match in prose_words(text):
            apart = before is None or text[before.end() : match.start()].strip(" ") != ""
            if before is None or apart or generator.random() >= self.probability:
                before = match
                continue
            first, second = before[0].lower(), match[0].lower()
            edits.append(Edit(*before.span(), in_case_of(before[0], second)))
            edits.append(Edit(*match.span(), in_case_of(match[0], first)))
            before = None
        return edits
