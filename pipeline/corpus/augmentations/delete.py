"""Leave words out."""

from __future__ import annotations

from pydantic import Field

from pipeline.corpus.augmentations.base_augmentation import Augmentation, Draw
from pipeline.corpus.edits import Edit
from pipeline.corpus.prose_words import prose_words


class Delete(Augmentation, type="delete"):
    """Leave plain words out, each with a space beside it (random deletion of EDA, Wei and Zou 2019)."""

    probability: float = Field(default=0.05, ge=0, le=1)
    """Chance of each plain word to be left out."""

    def edits(self, text: str, draw: Draw) -> list[Edit]:
        """An edit for each word that was drawn."""
        generator = draw.random()
        edits: list[Edit] = []
        position = 0
        for match in prose_words(text):
            if generator.random() >= self.probability:
                continue
            start, stop = match.span()
            if start > position and text[start - 1] == " ":
                start -= 1
            elif text[stop : stop + 1] == " ":
                stop += 1
            edits.append(Edit(start, stop, ""))
            position = stop
        return edits
