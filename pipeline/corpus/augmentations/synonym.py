"""Replace words by others of the same meaning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline.corpus.nlpaug_words import PlainWords
from pipeline.corpus.synonym_lexicon import SHIPPED, read_lexicon
from pipeline.errors import MissingInputError


class Synonym(PlainWords, type="synonym"):
    """Replace words by others of the same group of a lexicon (nlpaug's ReservedAug)."""

    lexicon: Path | None = None
    """File with a group of interchangeable words a line, separated by commas. Null takes the shipped one."""

    def files_of_key(self) -> Mapping[str, Sequence[Path]]:
        """The lexicon, whose mistakes are told before anything runs."""
        path = self.lexicon or SHIPPED
        if not path.is_file():
            raise MissingInputError(f"augment.operations: lexicon {path} does not exist; mend the path")
        read_lexicon(path)
        return {"lexicon" if self.lexicon is None else path.as_posix(): [path]}

    def may_change(self, word: str) -> bool:
        """Whether the lexicon has the word."""
        return word.lower() in self._words

    @cached_property
    def augmenter(self) -> Any:
        from nlpaug.augmenter.word import ReservedAug

        return ReservedAug(
            [list(group) for group in self._groups],
            aug_p=1.0,
            aug_min=0,
            aug_max=None,
            tokenizer=str.split,
            reverse_tokenizer=" ".join,
        )

    @cached_property
    def _groups(self) -> tuple[tuple[str, ...], ...]:
        return read_lexicon(self.lexicon or SHIPPED)

    @cached_property
    def _words(self) -> frozenset[str]:
        return frozenset(word for group in self._groups for word in group)
