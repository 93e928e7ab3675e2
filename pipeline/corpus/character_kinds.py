"""What kinds of characters a text is made of."""

from __future__ import annotations

import unicodedata
from collections import Counter
from functools import cache, lru_cache


@lru_cache(maxsize=1)  # several filters ask for the same text, one after the other
def count_kinds(text: str) -> Counter[str]:
    """How many letters, digits, symbols and invisible characters a text has; `visible` are the first three.

    Combining marks count as letters, for the vowels of many scripts are marks. Punctuation counts as symbols.
    """
    kinds: Counter[str] = Counter()
    for char, count in Counter(text).items():
        kinds[_kind(char)] += count
    kinds["visible"] = kinds["letter"] + kinds["digit"] + kinds["symbol"]
    return kinds


def is_visible(text: str) -> bool:
    """Whether a text has any character that is seen."""
    return any(_kind(char) != "invisible" for char in text)


@cache
def _kind(char: str) -> str:
    category = unicodedata.category(char)
    if category[0] in "LM":
        return "letter"
    if category[0] == "N":
        return "digit"
    return "symbol" if category[0] in "PS" else "invisible"
