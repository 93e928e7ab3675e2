"""The words of a text that may change: those of prose."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

# A word of prose: letters alone, in lower case or capitalized, with white space or sentence punctuation around it.
# Identifiers, paths, URLs, numbers, markup and calls have other neighbours and are never touched.
_WORD = re.compile(r"(?<![^\s(\"'])[A-Za-z]?[a-z]+(?=[.,;:!?)\"']*(?:\s|$))")
_BEFORE_WORD = "(\"'"
_LINE = re.compile(r"^([ \t]*)(?=\S).*|^[ \t]*$", re.MULTILINE)
_TOKEN = re.compile(r"\S+")

# What stands between white space and has one of these is no word of prose.
_KEPT = re.compile(r"[\d{}=<>\\|`_@#~^*$%&/]|::|\w[.(\[]\w|\w\(\)|(?<!\S)--?[A-Za-z]")
_CODE = re.compile(r"[{}=<>\\|`_]|://|\w\(|(?<!\S)--?[A-Za-z]")
_PLACEHOLDER = re.compile(r"<\w+>[.,;:!?)\"']*")
_OPERATOR = re.compile(r"[=<>|\\+*/&^~:!-]*[=<>|\\][=<>|\\+*/&^~:!-]*")
# Code within a line may have spaces: literals, tags, braces, calls, fields of reStructuredText.
_SPAN = re.compile(
    r"``(?:[^`\n]|\n(?![ \t]*\n)){1,300}``|`(?:[^`\n]|\n(?![ \t]*\n)){1,300}`|</?[A-Za-z!][^<>\n]{0,300}>"
    r"|\{[^{}\n]{0,300}\}|\w\([^()\n]{0,300}\)|^[ \t]*:[\w *]{1,60}:",
    re.MULTILINE,
)
_SPAN_MARK = re.compile(r"[`<{:]|\w\(")

_CODE_BEGIN = re.compile(
    r"\s*(?:>>>(?:\s|$)|\.\.\. |\.\. |\$ [a-z./]|#!|@[\w.]+(?:\(.*\))?$|from \S+ import |def \w+\("
    r"|class \w+(?:\(.*\))?:|import [\w.]+(?: as \w+)?(?:, *[\w.]+(?: as \w+)?)*\s*(?:#.*)?$)"
    r"|    |[ \t]*\t.*[{}=<>\\|`_();\[\]]",
)
_FENCE = re.compile(r"[ \t]*(```|~~~)[^`\n]*$")
_DIRECTIVE = re.compile(r"\s*\.\. [\w:-]+::")
_CODE_DIRECTIVE = re.compile(
    r"\s*\.\. (?:code(?:-block)?|sourcecode|doctest|test(?:code|output|setup)|parsed-literal|productionlist|math)::"
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


class Layout(NamedTuple):
    """What of a text stays as it is: places in order, none of which overlap those of the same kind."""

    code: list[tuple[int, int]]
    """Lines of code, tables and markup."""

    kept: list[tuple[int, int]]
    """What is no prose within other lines: identifiers, numbers, addresses, literals, tags, calls, the sides of `=`."""


def layout(text: str) -> Layout:
    """A line is code in a literal block, a fence or after a prompt, indented by four spaces or more, with the beginning
    of a statement, or where more than a third of it is code."""
    spans = [found.span() for found in _SPAN.finditer(text)] if _SPAN_MARK.search(text) else []
    code: list[tuple[int, int]] = []
    kept: list[tuple[int, int]] = []
    blocks = _Blocks(text)
    first = 0
    for line in _LINE.finditer(text):
        start, stop = line.span()
        while first < len(spans) and spans[first][1] <= start:
            first += 1
        if blocks.has(line) or _CODE_BEGIN.match(line[0]):
            code.append((start, stop))
        elif (first < len(spans) and spans[first][0] < stop) or _KEPT.search(text, start, stop):
            places = _kept_in_line(text, start, stop, spans, first)
            if places is None:
                code.append((start, stop))
            else:
                kept += places
    return Layout(code, kept)


class _Blocks:
    """Knows of each line, one after the other, whether it is in a block of code."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._fence: str | None = None
        self._in_doctest = False
        self._literal_of: int | None = None

    def has(self, line: re.Match[str]) -> bool:
        """Whether the next line is in one, or begins or ends a fence."""
        if self._fence is not None:
            if line[0].lstrip().startswith(self._fence):
                self._fence = None
            return True
        if line[1] is None:
            self._in_doctest = False
            return False
        if self._literal_of is not None and len(line[1]) > self._literal_of:
            return True
        self._literal_of = None
        if fence := _FENCE.match(line[0]):
            ends = re.compile(rf"^[ \t]*{fence[1]}", re.MULTILINE).search(self._text, line.end())
            self._fence = fence[1] if ends else None
            return True
        is_prose_directive = _DIRECTIVE.match(line[0]) and not _CODE_DIRECTIVE.match(line[0])
        if not is_prose_directive and (line[0].rstrip().endswith("::") or _CODE_DIRECTIVE.match(line[0])):
            self._literal_of = len(line[1])
        self._in_doctest = self._in_doctest or line[0].lstrip().startswith(">>>")
        return self._in_doctest


def _kept_in_line(
    text: str, start: int, stop: int, spans: list[tuple[int, int]], first: int
) -> list[tuple[int, int]] | None:
    """What stays within a line, or None for one of code."""
    tokens = [found.span() for found in _TOKEN.finditer(text, start, stop)]
    is_kept = [False] * len(tokens)
    is_code = [False] * len(tokens)
    placeholders = 0
    for number, (begin, end) in enumerate(tokens):
        while first < len(spans) and spans[first][1] <= begin:
            first += 1
        in_span = first < len(spans) and spans[first][0] < end
        if not in_span and not _KEPT.search(text, begin, end):
            continue
        is_kept[number] = True
        if _PLACEHOLDER.fullmatch(text, begin, end):
            placeholders += 1
        elif _OPERATOR.fullmatch(text, begin, end):
            for near in range(max(number - 1, 0), min(number + 2, len(tokens))):
                is_kept[near] = is_code[near] = True
        elif in_span or _CODE.search(text, begin, end):
            is_code[number] = True
    if 3 * sum(is_code) > len(tokens) - placeholders:
        return None
    return [token for token, stays in zip(tokens, is_kept, strict=True) if stays]


def prose_words(text: str) -> Iterator[re.Match[str]]:
    """The plain words of lines of prose, in order."""
    code, kept = layout(text)
    stays = sorted(code + kept)
    index = 0
    for match in _WORD.finditer(text):
        while index < len(stays) and stays[index][1] <= match.start():
            index += 1
        if (index == len(stays) or match.end() <= stays[index][0]) and _begins_token(text, match.start()):
            yield match


def _begins_token(text: str, start: int) -> bool:
    """Whether there is white space before a word and what may stand before it."""
    while start > 0 and text[start - 1] in _BEFORE_WORD:
        start -= 1
    return start == 0 or text[start - 1].isspace()


def in_case_of(word: str, replacement: str) -> str:
    """The replacement, capitalized where the word is."""
    return replacement.capitalize() if word[0].isupper() else replacement
