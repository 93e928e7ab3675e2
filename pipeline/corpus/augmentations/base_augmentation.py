"""What every augmentation has."""

from __future__ import annotations

import random
from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from pipeline.corpus.edits import Edit
from pipeline.features import Feature

if TYPE_CHECKING:
    from pipeline.corpus.word_counts import WordCounts


@dataclass(frozen=True)
class Draw:
    """Random numbers for one operation on one copy. `seed` is a pure function of the run's seed, the document, the
    copy, and the place and type of the operation."""

    seed: int
    word_counts: WordCounts | None = None
    """The words of the training documents, for an augmentation that needs their counts."""

    left: Counter[str] = field(default_factory=Counter, compare=False)
    """Where the operation counts what had to stay as it was, by reason."""

    def random(self) -> random.Random:
        """A generator of its own, always at its beginning."""
        return random.Random(self.seed)


class Augmentation(Feature):
    """One thing done to the altered copy of a document."""

    needs_word_counts: ClassVar[bool] = False
    """Whether the words of all training documents are to be counted before."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "alter" in vars(cls):
            raise TypeError(
                f"{cls.__name__}.alter(text, seed) is edits(text, draw) now: it gives "
                "[Edit(start, stop, new_text), ...] in the place of the new text"
            )

    @property
    def model(self) -> str | None:
        """What a model is called, and its revision, where the edits are those of a model. Copies for which `max_added`
        leaves no room are then not made at all."""
        return None

    def check(self) -> None:
        """Raises ConfigError for what only heavy libraries find, or where one is missing. Called before the first
        stage."""

    @abstractmethod
    def edits(self, text: str, draw: Draw) -> Sequence[Edit]:
        """What is changed in the text: edits in their order, none of which overlap; none where there is nothing to
        change. They depend on nothing but the two arguments."""

    def edits_of_all(self, texts: Sequence[str], draws: Sequence[Draw]) -> Sequence[Sequence[Edit]]:
        """The edits of each text. An augmentation that is faster on many texts at once overrides it."""
        return [self.edits(text, draw) for text, draw in zip(texts, draws, strict=True)]

    def settings(self) -> Mapping[str, Any]:
        """The settings, for the provenance of a copy."""
        return self.model_dump(mode="json", exclude={"type"})
