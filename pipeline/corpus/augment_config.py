"""Altered copies of training documents, and the weights of sources."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Self

from pydantic import Field, model_validator

from pipeline.corpus.augmentations import AUGMENTATIONS, Augmentation
from pipeline.corpus.documents import Document
from pipeline.features import one_of
from pipeline.section import Section

if TYPE_CHECKING:
    AnyAugmentation = Augmentation
else:
    AnyAugmentation = one_of(AUGMENTATIONS, Augmentation)


class AugmentConfig(Section):
    """Altered copies of documents of the training split. Originals always stay."""

    operations: list[AnyAugmentation] = Field(default_factory=list)
    """What is done to a copy, in this order."""

    fraction: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Part of the training documents that get altered copies."""

    copies: int = Field(default=1, ge=1, le=100)
    """Altered copies of each chosen document."""

    @model_validator(mode="after")
    def _has_something_to_do(self) -> Self:
        if self.fraction > 0 and not self.operations:
            raise ValueError("fraction is above 0 but operations is empty; add a synonym or keyboard operation")
        return self


class Augmenter:
    """Makes the copies of a section. The result depends on seed, document and copy number alone."""

    def __init__(self, config: AugmentConfig, seed: int) -> None:
        self._config = config
        self._seed = seed

    def repeats(self, document: Document) -> int:
        """How often a document stands in the training split for its source's weight; 0 drops it."""
        whole = int(document.weight)
        chance = unit_interval(self._seed, document.id, "weight", 0)
        return whole + (chance < document.weight - whole)

    def copies(self, document: Document) -> Iterator[Document]:
        """The altered copies of a document; a copy on which nothing could be changed is left out."""
        if unit_interval(self._seed, document.id, "chosen", 0) >= self._config.fraction:
            return
        for copy in range(1, self._config.copies + 1):
            text, changes = document.text, []
            for position, operation in enumerate(self._config.operations):
                number = random_number(self._seed, document.id, f"{position}/{operation.type}", copy)
                text, num_changed = operation.alter(text, number)
                if num_changed:
                    changes.append(f"augment:{operation.type}({num_changed} words)")
            if changes:
                yield derived(document, f"a{copy}", text, changes)


def derived(document: Document, suffix: str, text: str, changes: list[str]) -> Document:
    """A document made from another one."""
    return dataclasses.replace(
        document,
        id=f"{document.id}/{suffix}",
        text=text,
        parent=document.id,
        changes=[*document.changes, *changes],
    )


def random_number(seed: int, document_id: str, operation: str, copy: int) -> int:
    """64 random bits, a pure function of the arguments."""
    material = f"{seed}\0{document_id}\0{operation}\0{copy}".encode()
    return int.from_bytes(hashlib.blake2b(material, digest_size=8).digest(), "little")


def unit_interval(seed: int, document_id: str, operation: str, copy: int) -> float:
    """A random number in [0, 1), a pure function of the arguments."""
    return random_number(seed, document_id, operation, copy) / 2**64
