"""Sentences of prose: where they are in a text, and how another one stands in the place of one."""

from __future__ import annotations

import re
import textwrap
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from pipeline.corpus.prose_words import layout

LEAST_WORDS = 3

# Lines with something in them, one after the other, without those that hold no letter, as under a heading.
_PARAGRAPH = re.compile(r"^[ \t]*\S.*(?:\n[ \t]*\S.*)*", re.MULTILINE)
_NEW_UNIT = re.compile(r"^[ \t]*(?:(?:[-*+•]|\(?(?:\d{1,3}|[a-zA-Z])[.)])[ \t]+|(?:[^\w\n]|[\d_])*$)", re.MULTILINE)
_END = re.compile(r"[.!?…]{1,9}[\"'\u201d\u2019)\]]{0,9}(?=\s|\Z)|[\u3002\uff01\uff1f]{1,9}[\u300d\u300f\u201d]{0,9}")
_MARKS = ".,;:!?\"'\u2026\u201d\u2019"
_OPENING = re.compile(r"[\s\"'\u201c\u2018(\[]*")
_SPACE = re.compile(r"\s*")
_ABBREVIATION = re.compile(
    r"\b(?:[A-Za-z]|Mr|Mrs|Ms|Dr|Prof|St|Jr|Sr|Nos?|vs|etc|cf|Figs?|Eq|Sec|Ch|Vol|pp?|al|approx|e\.g|i\.e)\.\Z"
)
LONGEST_ABBREVIATION = 8


class Sentence(NamedTuple):
    """Where a sentence is, and its words with single spaces between them, whatever its line breaks."""

    start: int
    stop: int
    text: str


def sentences(text: str) -> Iterator[Sentence]:
    """The whole sentences of prose, in order: those of three words or more with a capital letter (or a letter that has
    none) at the beginning and a mark at the end. One with a line of code in it is none, nor one that is code in the
    main, or has code with spaces in it where lines break."""
    code, kept = layout(text)
    index = place = 0
    for start, stop in _spans(text):
        while index < len(code) and code[index][1] <= start:
            index += 1
        while place < len(kept) and kept[place][1] <= start:
            place += 1
        if index < len(code) and code[index][0] < stop:
            continue
        within = kept[place : bisect_left(kept, (stop, stop), place)]
        if within and not _can_come_back(text, start, stop, within):
            continue
        words = text[start:stop].split()
        first = next((character for character in words[0] if character.isalpha()), "a")
        is_long_enough = len(words) >= LEAST_WORDS or words[-1][-1] > "\u3000"  # in a script without spaces
        if is_long_enough and not first.islower():
            yield Sentence(start, stop, " ".join(words))


def kept_in(sentence: str) -> Counter[str]:
    """What of a sentence is no prose, without the mark at the end: identifiers, numbers, literals, calls."""
    runs: list[tuple[int, int]] = []
    for start, stop in layout(sentence).kept:
        if runs and sentence[runs[-1][1] : start].isspace():
            runs[-1] = runs[-1][0], stop
        else:
            runs.append((start, stop))
    return Counter(sentence[start:stop].rstrip(_MARKS) for start, stop in runs)


def _can_come_back(text: str, start: int, stop: int, within: list[tuple[int, int]]) -> bool:
    """Whether what is no prose in a sentence could stand there again as it is."""
    sentence = text[start:stop]
    between = {text[one[1] : other[0]] for one, other in pairwise(within)}
    has_code_with_spaces = any(not gap.strip() for gap in between)
    is_laid_out = "\n" in sentence or any(not gap.strip() and gap != " " for gap in between)
    return not (has_code_with_spaces and is_laid_out) and not layout(" ".join(sentence.split())).code


def in_place_of(text: str, sentence: Sentence, new: str) -> str:
    """A new sentence with line breaks as the one that it replaces, which may run over several lines."""
    first, *others = text[sentence.start : sentence.stop].split("\n")
    if not others:
        return new
    column = sentence.start - (text.rfind("\n", 0, sentence.start) + 1)
    indent = others[0][: len(others[0]) - len(others[0].lstrip())]
    width = max(column + len(first), *(len(line) for line in others), len(indent) + 1)
    lines = textwrap.wrap(
        new,
        width,
        initial_indent=" " * column,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return "\n".join(lines)[column:]


def _spans(text: str) -> Iterator[tuple[int, int]]:
    """What ends in a mark, within paragraphs and items of lists."""
    for paragraph in _PARAGRAPH.finditer(text):
        begin = paragraph.start()
        cuts = [(new.start(), new.end()) for new in _NEW_UNIT.finditer(text, begin, paragraph.end())]
        for cut, after in [*cuts, (paragraph.end(), 0)]:
            yield from _spans_of_unit(text, begin, cut)
            begin = after


def _spans_of_unit(text: str, begin: int, end: int) -> Iterator[tuple[int, int]]:
    position = _SPACE.match(text, begin, end).end()  # type: ignore[union-attr]
    for mark in _END.finditer(text, begin, end):
        after = _OPENING.match(text, mark.end(), end).end()  # type: ignore[union-attr]
        ahead = text[after : min(after + 1, end)]
        before = text[max(position, mark.start() - LONGEST_ABBREVIATION) : mark.start() + 1]
        if text[mark.start()] == "." and (ahead.islower() or _ABBREVIATION.search(before)):
            continue
        if mark.end() > position:
            yield position, mark.end()
        position = _SPACE.match(text, mark.end(), end).end()  # type: ignore[union-attr]
