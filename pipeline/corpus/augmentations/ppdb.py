"""Replace words by paraphrases of PPDB."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from pipeline.corpus.augmentations.base_plain_words import LookedUpWords
from pipeline.errors import MissingInputError

Relation = Literal[
    "Equivalence", "ForwardEntailment", "ReverseEntailment", "Independent", "Exclusion", "OtherRelated", "None"
]


class Ppdb(LookedUpWords, type="ppdb"):
    """Replace words by single words that paraphrase them in a file of PPDB 2.0. Words that carry grammar stay."""

    path: Path
    """The file, decompressed: lines of `LHS ||| phrase ||| paraphrase ||| features ||| alignment ||| entailment`."""

    relations: list[Relation] = Field(default_factory=lambda: ["Equivalence"], min_length=1)  # type: ignore[arg-type]
    """What a paraphrase may be to a word. `ForwardEntailment`: it says less, as animal does in the place of dog."""

    min_score: float = 0.0
    """Lowest `PPDB2.0Score` of a paraphrase."""

    def files_of_key(self) -> Mapping[str, Sequence[Path]]:
        """The file, which is not read here. Raises MissingInputError when it does not exist."""
        if not self.path.is_file():
            raise MissingInputError(f"augment.operations: PPDB file {self.path} does not exist; mend the path")
        return {self.path.as_posix(): [self.path]}

    def check(self) -> None:
        """Raises BadDataError where the file is not of PPDB 2.0."""
        assert self._index is not None

    def look_up(self, word: str) -> tuple[str, ...]:
        """The paraphrases of the file."""
        found: tuple[str, ...] = self._index.paraphrases(word)
        return found

    @cached_property
    def _index(self) -> Any:
        from pipeline.corpus.ppdb_index import PpdbIndex

        return PpdbIndex(self.path, frozenset(self.relations), self.min_score)
