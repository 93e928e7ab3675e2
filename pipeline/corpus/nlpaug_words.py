"""nlpaug on single plain words: all other bytes of a text stay as they are."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any, ClassVar

from pydantic import Field

from pipeline.corpus.augmentations.base_augmentation import Augmentation

# A word of prose: letters alone, in lower case or capitalized, with white space or sentence punctuation around it.
# Identifiers, paths, URLs, numbers, markup and calls have other neighbours and are never touched.
_WORD = re.compile(r"(?<![^\s(\"'])[A-Za-z]?[a-z]+(?=[.,;:!?)\"']*(?:\s|$))")
_CODE_LINE = re.compile(
    r"^(?:\s*(?:>>>|\.\.\.|\$|#!|@|import |from \S+ import |def |class )|.*(?:://|::$|[{}=<>\\|`_])|    ).*$",
    re.MULTILINE,
)
BATCH_WORDS = 100


class PlainWords(Augmentation):
    """An operation of nlpaug over the plain words of a text, each drawn by itself."""

    libraries: ClassVar[tuple[str, ...]] = ("nlpaug",)

    probability: float = Field(default=0.1, gt=0, le=1)
    """Chance of each word that may change to be changed."""

    def may_change(self, word: str) -> bool:
        """Whether a plain word is one that the operation is for."""
        raise NotImplementedError

    @cached_property
    def augmenter(self) -> Any:
        """nlpaug's object, which takes words between single spaces."""
        raise NotImplementedError

    def alter(self, text: str, seed: int) -> tuple[str, int]:
        """The text with some of its plain words replaced; case is kept."""
        # nlpaug takes a rounded-up part of the words it sees, at least one: each word is drawn here instead.
        draw = random.Random(seed).random
        drawn = [word for word in _prose_words(text) if self.may_change(word[0]) and draw() < self.probability]
        replacements = self._replacements([word[0] for word in drawn], seed)
        pieces, position, num_changed = [], 0, 0
        for match, replacement in zip(drawn, replacements, strict=True):
            word, (start, end) = match[0], match.span()
            if replacement != word.lower():
                pieces += [text[position:start], replacement.capitalize() if word[0].isupper() else replacement]
                position = end
                num_changed += 1
        return "".join([*pieces, text[position:]]), num_changed

    def _replacements(self, words: list[str], seed: int) -> list[str]:
        replacements = []
        with _seeded(seed):
            # nlpaug's time grows with the square of the number of words.
            for first in range(0, len(words), BATCH_WORDS):
                batch = " ".join(words[first : first + BATCH_WORDS]).lower()
                replacements += self.augmenter.substitute(batch).split(" ")
        return replacements


def _prose_words(text: str) -> Iterator[re.Match[str]]:
    code = [match.span() for match in _CODE_LINE.finditer(text)]
    index = 0
    for match in _WORD.finditer(text):
        while index < len(code) and code[index][1] <= match.start():
            index += 1
        if index == len(code) or match.start() < code[index][0]:
            yield match


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed the two global generators from which nlpaug draws, and put them back."""
    import numpy as np

    before, numpy_before = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed % 2**32)
    try:
        yield
    finally:
        random.setstate(before)
        np.random.set_state(numpy_before)
