"""Cut the ends off."""

from __future__ import annotations

import re

from pydantic import Field

from pipeline.corpus.augmentations.base_augmentation import Augmentation, Draw
from pipeline.corpus.edits import Edit


class Crop(Augmentation, type="crop"):
    """Cut words off the beginning and the end of a text. What is between them stays as it is."""

    max_share: float = Field(default=0.3, gt=0, lt=1)
    """Most words to be cut off, as a part of all. How many, and at which end, is drawn."""

    def edits(self, text: str, draw: Draw) -> list[Edit]:
        """An edit for each end that is cut. None where the share is less than a word."""
        words = list(re.finditer(r"\S+", text))
        most = int(self.max_share * len(words))
        if most == 0:
            return []
        generator = draw.random()
        number = generator.randint(1, most)
        at_beginning = generator.randint(0, number)
        first, last = words[at_beginning], words[len(words) - 1 - (number - at_beginning)]
        ends = [Edit(0, first.start(), "")] if at_beginning else []
        return [*ends, Edit(last.end(), len(text), "")] if at_beginning < number else ends
