"""Let a masked language model choose words."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from pipeline.corpus.augmentations.base_augmentation import Augmentation, Draw
from pipeline.corpus.edits import Edit
from pipeline.corpus.pretrained_models import Model, files_of_model, name_of_model
from pipeline.corpus.prose_words import FUNCTION_WORDS, in_case_of, prose_words

WHERE = "augment.operations: masked_lm"


class MaskedLm(Augmentation, Model, type="masked_lm"):
    """Replace words by what a masked language model (BERT, RoBERTa) expects in their place (Kobayashi 2018), or put
    such words in. Words that carry grammar are not replaced."""

    libraries: ClassVar[tuple[str, ...]] = ("torch", "transformers", "tokenizers")

    mode: Literal["substitute", "insert"] = "substitute"
    """Whether words are replaced, or put in before others."""

    probability: float = Field(default=0.1, ge=0, le=1)
    """Chance of each plain word to be replaced, or to get another one before it."""

    top_k: int = Field(default=20, ge=1)
    """One of so many likeliest words is drawn, by the model's probabilities."""

    @property
    def model(self) -> str:
        """The model and its revision."""
        return name_of_model(self)

    def files_of_key(self) -> Mapping[str, Sequence[Path]]:
        """The files of a local folder."""
        return files_of_model(self, WHERE)

    def check(self) -> None:
        """Opens the model, which also fetches it. Raises ConfigError where it is no masked language model."""
        assert self._words is not None

    def edits(self, text: str, draw: Draw) -> Sequence[Edit]:
        """An edit for each word that was drawn."""
        return self.edits_of_all([text], [draw])[0]

    def edits_of_all(self, texts: Sequence[str], draws: Sequence[Draw]) -> list[list[Edit]]:
        """An edit for each word that was drawn. All words of a text are hidden from the model at once."""
        generators = [draw.random() for draw in draws]
        drawn = [self._drawn(text, generator) for text, generator in zip(texts, generators, strict=True)]
        places = [[(word.start(), self._stop(word)) for word in words] for words in drawn]
        edits_of_all = []
        for words, found, generator in zip(drawn, self._words.expected(texts, places), generators, strict=True):
            edits = []
            for word, expected in zip(words, found, strict=True):
                others = {one: chance for one, chance in expected.items() if one != word[0].lower()}
                if others:
                    (new,) = generator.choices(list(others), list(others.values()))
                    edits.append(self._edit(word, new))
            edits_of_all.append(edits)
        return edits_of_all

    def _drawn(self, text: str, generator: random.Random) -> list[re.Match[str]]:
        is_free = self.mode == "insert"
        words = (word for word in prose_words(text) if is_free or word[0].lower() not in FUNCTION_WORDS)
        return [word for word in words if generator.random() < self.probability]

    def _stop(self, word: re.Match[str]) -> int:
        return word.start() if self.mode == "insert" else word.end()

    def _edit(self, word: re.Match[str], new: str) -> Edit:
        if self.mode == "insert":
            return Edit(word.start(), word.start(), f"{new} ")
        return Edit(*word.span(), in_case_of(word[0], new))

    @cached_property
    def _words(self) -> Any:
        from pipeline.corpus.expected_words import ExpectedWords

        return ExpectedWords(self, WHERE, self.top_k, FUNCTION_WORDS if self.mode == "substitute" else frozenset())
