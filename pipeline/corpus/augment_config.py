"""Altered copies of training documents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Self

from pydantic import Field, model_validator

from pipeline.corpus.augmentations import AUGMENTATIONS, Augmentation
from pipeline.features import one_of
from pipeline.section import Section

if TYPE_CHECKING:
    AnyAugmentation = Augmentation
else:
    AnyAugmentation = one_of(AUGMENTATIONS, Augmentation)


class Recipe(Section):
    """One of several ways to make a copy."""

    weight: float = Field(default=1.0, gt=0)
    """How often it is taken, relative to the others."""

    operations: list[AnyAugmentation] = Field(min_length=1)
    """What is done to a copy, in this order."""


class AugmentConfig(Section):
    """Altered copies of documents of the training split. Originals always stay."""

    enabled: bool = True
    """Whether copies are made at all."""

    operations: list[AnyAugmentation] = Field(default_factory=list)
    """What is done to a copy, in this order."""

    recipes: list[Recipe] = Field(default_factory=list)
    """Several lists of operations in place of one: each copy is made by one, drawn by weight."""

    fraction: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Part of the training documents that get altered copies."""

    copies: int = Field(default=1, ge=1, le=100)
    """Altered copies of each chosen document."""

    max_added: float | None = Field(default=None, ge=0)
    """Most text of copies, as a part of that of the originals, at any place of a shard. Null: no limit."""

    max_similarity: float = Field(default=0.98, ge=0, le=1)
    """Copies that are more like their original are dropped: the pairs of words that both have, as a part of those that
    either has (Jaccard). 1 drops none."""

    min_similarity: float = Field(default=0.0, ge=0, le=1)
    """Copies that are less like their original are dropped."""

    @model_validator(mode="after")
    def _has_something_to_do(self) -> Self:
        if self.operations and self.recipes:
            raise ValueError(
                "operations and recipes are two ways to say the same; make operations one of the recipes, or take back "
                "the others: augment.recipes=null or augment.operations=null"
            )
        if self.fraction > 0 and not self.ways:
            raise ValueError(
                "fraction is above 0 but there is nothing to do; add a synonym or keyboard operation to operations or "
                "recipes"
            )
        if self.max_added == 0 and self.makes_copies:
            raise ValueError("max_added is 0, which leaves no room for any copy; enabled: false makes none")
        if self.min_similarity > self.max_similarity:
            raise ValueError("min_similarity is above max_similarity, which drops every copy; lower it")
        return self

    @property
    def ways(self) -> list[Recipe]:
        """The recipes; `operations` alone are one."""
        return self.recipes or ([Recipe(operations=self.operations)] if self.operations else [])

    def early_warnings(self) -> list[str]:
        """That no copy is made though it is said how."""
        is_for_nothing = self.enabled and self.ways and self.fraction == 0
        return ["no copies are made: fraction is 0"] if is_for_nothing else []

    @property
    def needs_word_counts(self) -> bool:
        """Whether an operation needs the words of all training documents to be counted."""
        return self.makes_copies and any(one.needs_word_counts for way in self.ways for one in way.operations)

    @property
    def makes_copies(self) -> bool:
        """Whether any document may get a copy."""
        return self.enabled and self.fraction > 0
