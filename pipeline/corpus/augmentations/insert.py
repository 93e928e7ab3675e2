"""Put words in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

from pydantic import Field

from pipeline.corpus.augmentations.base_augmentation import Augmentation, Draw
from pipeline.corpus.edits import Edit
from pipeline.corpus.prose_words import prose_words
from pipeline.corpus.word_groups import SYNONYMS, files_of_lexicon, others_of_lexicon


class Insert(Augmentation, type="insert"):
    """Put synonyms of the text's own words in anywhere between its plain words (random insertion of EDA, Wei and Zou
    2019)."""

    probability: float = Field(default=0.05, ge=0, le=1)
    """Chance of each plain word to get another one before it."""

    lexicon: Path | None = None
    """File with a group of interchangeable words a line, separated by commas. Null takes the shipped one."""

    def files_of_key(self) -> Mapping[str, Sequence[Path]]:
        """The lexicon, whose mistakes are told before anything runs."""
        return files_of_lexicon(self.lexicon, SYNONYMS)

    def edits(self, text: str, draw: Draw) -> list[Edit]:
        """An edit for each word that is put in. None where the lexicon has no word of the text."""
        generator = draw.random()
        words = list(prose_words(text))
        known = [others for word in words if (others := self._others.get(word[0].lower()))]
        if not known:
            return []
        drawn = [word.start() for word in words if generator.random() < self.probability]
        return [Edit(place, place, f"{generator.choice(generator.choice(known))} ") for place in drawn]

    @cached_property
    def _others(self) -> dict[str, tuple[str, ...]]:
        return others_of_lexicon(self.lexicon or SYNONYMS)
