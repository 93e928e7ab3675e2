"""Which documents are worth learning from: each filter names the reason for which it drops one."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from functools import cache

from pipeline.config.corpus import CurateConfig

_WORD = re.compile(r"\S+")

SETTINGS = {
    "shorter than min_chars": "min_chars",
    "longer than max_chars": "max_chars",
    "fewer than min_words": "min_words",
    "fewer letters than min_alphabetic_ratio": "min_alphabetic_ratio",
    "more digits than max_digit_ratio": "max_digit_ratio",
    "more symbols than max_symbol_ratio": "max_symbol_ratio",
    "repeats an earlier document": "deduplicate",
}
"""The setting of curate behind each reason for which a document is dropped, but for having nothing visible."""


def reason_to_drop(text: str, section: CurateConfig) -> str | None:
    """The first limit that a text breaks, in words, or None when it may stay."""
    if len(text) < section.min_chars:
        return "shorter than min_chars"
    if section.max_chars is not None and len(text) > section.max_chars:
        return "longer than max_chars"
    if section.min_words and sum(1 for _ in _WORD.finditer(text)) < section.min_words:
        return "fewer than min_words"
    kinds = count_kinds(text)
    visible = kinds["letter"] + kinds["digit"] + kinds["symbol"]
    if visible == 0:
        return "no visible characters"
    if kinds["letter"] < section.min_alphabetic_ratio * visible:
        return "fewer letters than min_alphabetic_ratio"
    if kinds["digit"] > section.max_digit_ratio * visible:
        return "more digits than max_digit_ratio"
    if kinds["symbol"] > section.max_symbol_ratio * visible:
        return "more symbols than max_symbol_ratio"
    return None


def count_kinds(text: str) -> Counter[str]:
    """How many letters, digits, symbols and invisible characters a text has.

    Combining marks count as letters, for the vowels of many scripts are marks. Punctuation counts as symbols.
    """
    kinds: Counter[str] = Counter()
    for char, count in Counter(text).items():
        kinds[_kind(char)] += count
    return kinds


@cache
def _kind(char: str) -> str:
    category = unicodedata.category(char)
    if category[0] in "LM":
        return "letter"
    if category[0] == "N":
        return "digit"
    return "symbol" if category[0] in "PS" else "invisible"
