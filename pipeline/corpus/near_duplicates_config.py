"""Which documents are alike, and what follows."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from pipeline.section import Section


class NearDuplicates(Section):
    """Documents are alike by the part of their runs of words that both have, of all that one of them has (the Jaccard
    similarity of their sets), estimated by MinHash. Case, punctuation and white space do not count."""

    ngram_words: int = Field(default=2, ge=1, le=20)
    """Words in a run. Two copies of a paragraph of which each had a tenth of its words changed still share about half
    of their pairs of words, but a sixth of their runs of five."""

    num_hashes: int = Field(default=216, ge=16, le=1024)
    """Numbers in a signature. An estimate of similarity s is off by about sqrt(s (1 - s) / num_hashes)."""

    drop_at: float | None = Field(default=0.8, gt=0, le=1)
    """A document goes when one before it, which stays, is at least so similar. Null drops none."""

    same_split_at: float | None = Field(default=0.3, gt=0, le=1)
    """Documents that are at least so similar, or linked by others that are, share a split. Null: each goes by its own
    text."""

    @model_validator(mode="after")
    def _alike_enough_to_drop_is_alike_enough_to_share_a_split(self) -> Self:
        if self.drop_at is None and self.same_split_at is None:
            raise ValueError("drop_at and same_split_at are both null; write near_duplicates: null")
        if self.drop_at is not None and self.same_split_at is not None and self.same_split_at > self.drop_at:
            raise ValueError(f"same_split_at {self.same_split_at} is above drop_at {self.drop_at}; lower it")
        return self

    @property
    def lowest(self) -> float:
        """The least similarity that matters."""
        return min(one for one in (self.drop_at, self.same_split_at) if one is not None)
