"""Altered copies of documents with nlpaug, which sees only single plain words: all other bytes stay as they are."""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from pipeline.config.corpus import AugmentConfig, KeyboardOperation, SynonymOperation
from pipeline.corpus.documents import Document
from pipeline.corpus.lexicon import SHIPPED, read_lexicon

# A word of prose: letters alone, in lower case or capitalized, with white space or sentence punctuation around it.
# Identifiers, paths, URLs, numbers, markup and calls have other neighbours and are never touched.
_WORD = re.compile(r"(?<![^\s(\"'])[A-Za-z]?[a-z]+(?=[.,;:!?)\"']*(?:\s|$))")
_CODE_LINE = re.compile(
    r"^(?:\s*(?:>>>|\.\.\.|\$|#!|@|import |from \S+ import |def |class )|.*(?:://|::$|[{}=<>\\|`_])|    ).*$",
    re.MULTILINE,
)
MIN_KEYBOARD_LETTERS = 4
BATCH_WORDS = 100


class Augmenter:
    """Makes the copies of a section. The result depends on seed, document and copy number alone."""

    def __init__(self, section: AugmentConfig, seed: int) -> None:
        self._section = section
        self._seed = seed
        self._operations = [_WordOperation(operation) for operation in section.operations]

    def repeats(self, document: Document) -> int:
        """How often a document stands in the training split for its source's weight; 0 drops it."""
        whole = int(document.weight)
        chance = unit_interval(self._seed, document.id, "weight", 0)
        return whole + (chance < document.weight - whole)

    def copies(self, document: Document) -> Iterator[Document]:
        """The altered copies of a document; a copy on which nothing could be changed is left out."""
        if unit_interval(self._seed, document.id, "chosen", 0) >= self._section.fraction:
            return
        for copy in range(1, self._section.copies + 1):
            text, changes = document.text, []
            for position, operation in enumerate(self._operations):
                number = random_number(self._seed, document.id, f"{position}/{operation.name}", copy)
                text, num_changed = operation(text, number)
                if num_changed:
                    changes.append(f"augment:{operation.name}({num_changed} words)")
            if changes:
                yield derived(document, f"a{copy}", text, changes)


def derived(document: Document, suffix: str, text: str, changes: list[str]) -> Document:
    """A document made from another one."""
    return Document(
        f"{document.id}/{suffix}",
        text,
        document.source,
        document.origin,
        document.label,
        document.weight,
        document.id,
        [*document.changes, *changes],
    )


class _WordOperation:
    """One operation of nlpaug over the plain words of a text."""

    def __init__(self, operation: SynonymOperation | KeyboardOperation) -> None:
        from nlpaug.augmenter.char import KeyboardAug
        from nlpaug.augmenter.word import ReservedAug

        self.name = operation.type
        self._probability = operation.probability
        self._words: frozenset[str] | None = None
        plain: dict[str, Any] = {"tokenizer": str.split, "reverse_tokenizer": " ".join}
        if isinstance(operation, SynonymOperation):
            groups = read_lexicon(operation.lexicon or SHIPPED)
            self._words = frozenset(word for group in groups for word in group)
            self._augmenter: Any = ReservedAug(
                [list(group) for group in groups], aug_p=1.0, aug_min=0, aug_max=None, **plain
            )
        else:
            self._augmenter = KeyboardAug(
                aug_word_p=1.0,
                aug_word_min=0,
                aug_word_max=None,
                aug_char_min=1,
                aug_char_max=1,
                include_special_char=False,
                include_numeric=False,
                include_upper_case=False,
                **plain,
            )

    def __call__(self, text: str, seed: int) -> tuple[str, int]:
        """The altered text and the number of words changed."""
        # nlpaug takes a rounded-up part of the words it sees, at least one: each word is drawn here instead.
        draw = random.Random(seed).random
        spans = [
            (start, end)
            for start, end in _prose_words(text)
            if self._may_change(text[start:end]) and draw() < self._probability
        ]
        words = [text[start:end] for start, end in spans]
        pieces, position, num_changed = [], 0, 0
        for (start, end), word, replacement in zip(spans, words, self._replacements(words, seed), strict=True):
            if replacement != word.lower():
                pieces += [text[position:start], _in_case_of(word, replacement)]
                position = end
                num_changed += 1
        return "".join([*pieces, text[position:]]), num_changed

    def _replacements(self, words: list[str], seed: int) -> list[str]:
        replacements = []
        with _seeded(seed):
            # nlpaug's time grows with the square of the number of words.
            for first in range(0, len(words), BATCH_WORDS):
                batch = " ".join(words[first : first + BATCH_WORDS]).lower()
                replacements += self._augmenter.substitute(batch).split(" ")
        return replacements

    def _may_change(self, word: str) -> bool:
        if self._words is not None:
            return word.lower() in self._words
        return len(word) >= MIN_KEYBOARD_LETTERS


def _prose_words(text: str) -> Iterator[tuple[int, int]]:
    code = [match.span() for match in _CODE_LINE.finditer(text)]
    index = 0
    for match in _WORD.finditer(text):
        while index < len(code) and code[index][1] <= match.start():
            index += 1
        if index == len(code) or match.start() < code[index][0]:
            yield match.span()


def _in_case_of(word: str, replacement: str) -> str:
    return replacement.capitalize() if word[0].isupper() else replacement


def random_number(seed: int, document_id: str, operation: str, copy: int) -> int:
    """64 random bits, a pure function of the arguments."""
    material = f"{seed}\0{document_id}\0{operation}\0{copy}".encode()
    return int.from_bytes(hashlib.blake2b(material, digest_size=8).digest(), "little")


def unit_interval(seed: int, document_id: str, operation: str, copy: int) -> float:
    """A random number in [0, 1), a pure function of the arguments."""
    return random_number(seed, document_id, operation, copy) / 2**64


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed the two global generators from which nlpaug draws, and put them back."""
    before, numpy_before = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed % 2**32)
    try:
        yield
    finally:
        random.setstate(before)
        np.random.set_state(numpy_before)
