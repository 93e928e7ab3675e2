"""Mistype words."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from pydantic import Field

from pipeline.corpus.nlpaug_words import PlainWords

MIN_LETTERS = 4


class Keyboard(PlainWords, type="keyboard"):
    """Mistype words: letters replaced by their neighbours on the keyboard (nlpaug's KeyboardAug)."""

    probability: float = Field(default=0.02, gt=0, le=1)
    """Chance of each plain word of four letters or more to be mistyped."""

    def may_change(self, word: str) -> bool:
        """Whether the word is long enough to be recognized in spite of an error."""
        return len(word) >= MIN_LETTERS

    @cached_property
    def augmenter(self) -> Any:
        from nlpaug.augmenter.char import KeyboardAug

        return KeyboardAug(
            aug_word_p=1.0,
            aug_word_min=0,
            aug_word_max=None,
            aug_char_min=1,
            aug_char_max=1,
            include_special_char=False,
            include_numeric=False,
            include_upper_case=False,
            tokenizer=str.split,
            reverse_tokenizer=" ".join,
        )
