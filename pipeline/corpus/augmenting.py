"""Making altered copies of documents: which, by what, and what is known of each."""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

from pipeline.corpus.augment_config import AugmentConfig
from pipeline.corpus.augmentations.base_augmentation import Augmentation, Draw
from pipeline.corpus.documents import Document
from pipeline.corpus.edits import Edit, apply_edits, check_edits, compose, without_unchanged
from pipeline.errors import BadDataError

if TYPE_CHECKING:
    from pipeline.corpus.word_counts import WordCounts

BATCH_BYTES = 1_000_000
"""Text of the documents whose copies are made together."""

NO_ROOM = "more text than max_added"

MODEL_BYTES = 32_000
"""Text of copies that models make together: some hundred sentences, so that progress is seen."""


@dataclass
class Copy:
    """An altered copy of a document and how it was made."""

    parent: Document
    number: int
    recipe: int
    text: str
    edits: list[Edit] = field(default_factory=list)
    """Of the parent's text."""
    operations: list[dict[str, Any]] = field(default_factory=list)
    """Those that changed something: type, arguments, seed, model, num_edits."""
    similarity: float = 1.0
    left: Counter[str] = field(default_factory=Counter)
    """What had to stay as it was, by operation and reason."""

    has_room: bool = True
    """False: it is not made, since `max_added` would leave it no room."""

    def document(self) -> Document:
        """The copy as a document."""
        done = [f"augment:{one['type']}({one['num_edits']} edits)" for one in self.operations]
        return derived(self.parent, f"a{self.number}", self.text, done)


class Augmenter:
    """Makes the copies of a section. A copy depends on seed, document and its number, and with augmentations that work
    on batches on the other documents of the batch."""

    def __init__(self, config: AugmentConfig, seed: int, word_counts: WordCounts | None = None) -> None:
        self._config = config
        self._seed = seed
        self._word_counts = word_counts
        self._ways = config.ways
        self._bounds = list(accumulate(way.weight for way in self._ways))

    def batches(self, documents: Iterable[Document]) -> Iterator[list[Document]]:
        """Consecutive documents with about BATCH_BYTES of text, or MODEL_BYTES of copies by models."""
        batch: list[Document] = []
        size = by_models = 0
        for document in documents:
            batch.append(document)
            size += document.num_bytes
            by_models += document.num_bytes * sum(map(self._asks_model, self._begun(document)))
            if size >= BATCH_BYTES or by_models >= MODEL_BYTES:
                yield batch
                batch, size, by_models = [], 0, 0
        if batch:
            yield batch

    def copies(self, documents: Sequence[Document], budget: Budget | None = None) -> list[list[Copy]]:
        """The copies of each document of a batch; those on which nothing could be changed are there as well. Copies
        that ask a model are made while there is room for the text of their parents."""
        copies_of = [self._begun(document) for document in documents]
        if budget is not None:
            self._foresee_room(documents, copies_of, dataclasses.replace(budget))
        made = [copy for copies in copies_of for copy in copies if copy.has_room]
        for recipe, way in enumerate(self._ways):
            copies = [copy for copy in made if copy.recipe == recipe]
            for position, operation in enumerate(way.operations):
                self._apply(operation, position, copies)
        for copy in made:
            copy.edits = without_unchanged(copy.parent.text, copy.edits)
            copy.similarity = similarity(copy.parent.text, copy.text)
        return copies_of

    def reason_to_drop(self, copy: Copy) -> str | None:
        """Why a copy is of no use."""
        if not copy.has_room:
            return NO_ROOM
        if not copy.edits:
            return "nothing to change"
        if copy.similarity > self._config.max_similarity:
            return "more like the original than max_similarity"
        if copy.similarity < self._config.min_similarity:
            return "less like the original than min_similarity"
        return None

    def _begun(self, document: Document) -> list[Copy]:
        config = self._config
        if not config.makes_copies or unit_interval(self._seed, document.id, "chosen", 0) >= config.fraction:
            return []
        return [Copy(document, n, self._recipe(document, n), document.text) for n in range(1, config.copies + 1)]

    def _asks_model(self, copy: Copy) -> bool:
        return any(operation.model is not None for operation in self._ways[copy.recipe].operations)

    def _foresee_room(self, documents: Sequence[Document], copies_of: Iterable[list[Copy]], budget: Budget) -> None:
        for document, copies in zip(documents, copies_of, strict=True):
            budget.add_original(document.num_bytes)
            for copy in copies:
                copy.has_room = budget.has_room(document.num_bytes) or not self._asks_model(copy)

    def _recipe(self, document: Document, number: int) -> int:
        drawn = unit_interval(self._seed, document.id, "recipe", number) * self._bounds[-1]
        return next(index for index, bound in enumerate(self._bounds) if drawn < bound)

    def _apply(self, operation: Augmentation, position: int, copies: Sequence[Copy]) -> None:
        place = f"{position}/{operation.type}"
        seeds = [random_number(self._seed, copy.parent.id, place, copy.number) for copy in copies]
        draws = [Draw(seed, self._word_counts) for seed in seeds]
        edits_of_all = operation.edits_of_all([copy.text for copy in copies], draws)
        for copy, draw, edits in zip(copies, draws, edits_of_all, strict=True):
            try:
                check_edits(copy.text, edits)
            except ValueError as error:
                raise BadDataError(f"augment: {operation.type} on document {copy.parent.id}: {error}") from None
            for reason, count in draw.left.items():
                copy.left[f"{operation.type}: {reason}"] += count
            if edits := without_unchanged(copy.text, edits):
                copy.edits = compose(copy.edits, edits)
                copy.text = apply_edits(copy.text, edits)
                done = {"type": operation.type, "arguments": operation.settings(), "seed": draw.seed}
                copy.operations.append({**done, "model": operation.model, "num_edits": len(edits)})


@dataclass
class Budget:
    """Lets copies through while their text is at most a part of that of the originals so far."""

    max_added: float | None
    originals: int = 0
    added: int = 0

    def add_original(self, num_bytes: int) -> None:
        """An original that stands in the split."""
        self.originals += num_bytes

    def has_room(self, num_bytes: int) -> bool:
        """Whether a copy fits; it then counts."""
        if self.max_added is not None and self.added + num_bytes > self.max_added * self.originals:
            return False
        self.added += num_bytes
        return True


def similarity(text: str, other: str) -> float:
    """The pairs of neighbouring words that both texts have, as a part of those that either has."""
    pairs, others = _word_pairs(text), _word_pairs(other)
    return len(pairs & others) / len(pairs | others) if pairs or others else 1.0


def _word_pairs(text: str) -> set[tuple[str, ...]]:
    words = text.split()
    return set(pairwise(words)) or {tuple(words)} - {()}


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
