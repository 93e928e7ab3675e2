"""Replace words that say little."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from pipeline.corpus.augmentations.base_augmentation import Augmentation, Draw
from pipeline.corpus.edits import Edit
from pipeline.corpus.prose_words import in_case_of, prose_words


class TfIdf(Augmentation, type="tf_idf"):
    """Replace words that say little about their document, by low TF-IDF, with words that say little about any (UDA, Xie
    et al. 2020). Counted are the training documents."""

    needs_word_counts: ClassVar[bool] = True

    probability: float = Field(default=0.1, ge=0, le=1)
    """Mean chance of a plain word to be replaced; that of the highest TF-IDF in its document stays."""

    def edits(self, text: str, draw: Draw) -> list[Edit]:
        """An edit for each word that was drawn. None where all words say as much."""
        from pipeline.corpus.word_counts import LONGEST, counted_words

        assert draw.word_counts is not None
        counts = counted_words(text)
        scores = {word: number * draw.word_counts.idf_of(word) for word, number in counts.items()}
        highest = max(scores.values(), default=0.0)
        below = sum(number * (highest - scores[word]) for word, number in counts.items())
        if below == 0:
            return []
        chance = self.probability * sum(counts.values()) / below
        generator = draw.random()
        edits = []
        for match in prose_words(text):
            word = match[0].lower()
            if len(word) <= LONGEST and generator.random() < chance * (highest - scores[word]):
                edits.append(Edit(*match.span(), in_case_of(match[0], draw.word_counts.drawn(generator.random()))))
        return edits
