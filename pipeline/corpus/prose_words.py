"""The words of a text that may change: those of prose."""

from __future__ import annotations

import re
from collections.abc import Iterator

# A word of prose: letters alone, in lower case or capitalized, with white space or sentence punctuation around it.
# Identifiers, paths, URLs, numbers, markup and calls have other neighbours and are never touched.
_WORD = re.compile(r"(?<![^\s(\"'])[A-Za-z]?[a-z]+(?=[.,;:!?)\"']*(?:\s|$))")
_CODE_LINE = re.compile(
    r"^(?:\s*(?:>>>|\.\.\.|\$|#!|@|import |from \S+ import |def |class )|.*(?:://|::$|[{}=<>\\|`_])|    ).*$",
    re.MULTILINE,
)

_FUNCTION_WORDS = """
    a about above across after again against all along already also although always am among an and another any are
    as at be because been before being below between both but by can cannot could did do does doing done down during
    each either else ever every few for from further get gets got had has have having he hence her here hers herself
    him himself his how however i if in inside into is it its itself just least less let like many may me might mine
    more most much must my myself near neither never no nor not nothing now of off often on once one only onto or
    other others our ours ourselves out outside over own per quite rather same she should since so some something
    such than that the their theirs them themselves then there therefore these they this those though through thus
    to too toward towards two under unless until up upon us use used uses using very via was we well were what when
    where whether which while who whom whose why will with within without would yet you your yours yourself
    yourselves
"""
FUNCTION_WORDS = frozenset(_FUNCTION_WORDS.split())
"""English words that carry grammar: dictionaries have other meanings for many of them (a unit, a chemical element)."""


def code_lines(text: str) -> Iterator[tuple[int, int]]:
    """Where lines of code, tables and markup are, in order."""
    return (match.span() for match in _CODE_LINE.finditer(text))


def prose_words(text: str) -> Iterator[re.Match[str]]:
    """The plain words of lines of prose, in order."""
    code = list(code_lines(text))
    index = 0
    for match in _WORD.finditer(text):
        while index < len(code) and code[index][1] <= match.start():
            index += 1
        if index == len(code) or match.start() < code[index][0]:
            yield match


def in_case_of(word: str, replacement: str) -> str:
    """The replacement, capitalized where the word is."""
    return replacement.capitalize() if word[0].isupper() else replacement
