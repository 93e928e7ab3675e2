"""The rules of repetition of Gopher."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import Field

from pipeline.corpus.filters.base_text_filter import TextFilter
from pipeline.section import Section

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pipeline.corpus.document_batches import DocumentBatch
    from pipeline.corpus.text_facts import TextFacts

_PARAGRAPH_ENDS = re.compile(r"\n{2,}")
_LINE_ENDS = re.compile(r"\n+")
_FREQUENT = "a more frequent phrase than gopher_repetition"


class PhraseLimit(Section):
    """A limit on phrases of some length."""

    words: int = Field(ge=1, le=100)
    """Words of a phrase."""

    value: float = Field(ge=0)
    """Largest part of the characters of the text."""


def _limits(**values: float) -> list[PhraseLimit]:
    return [PhraseLimit(words=int(name[1:]), value=value) for name, value in values.items()]


class GopherRepetition(TextFilter, type="gopher_repetition"):
    """Drop documents that repeat themselves, by the rules of Gopher (Rae et al. 2021, table A1).

    Words are runs of characters between white space, phrases are runs of words. A document without text is dropped.
    """

    max_repeated_paragraphs: float | None = Field(default=0.3, ge=0)
    """Largest part of the paragraphs that repeat an earlier one; null sets no limit."""

    max_repeated_paragraph_chars: float | None = Field(default=0.2, ge=0)
    """Largest part of the characters in such paragraphs."""

    max_repeated_lines: float | None = Field(default=0.3, ge=0)
    """Largest part of the lines that repeat an earlier one."""

    max_repeated_line_chars: float | None = Field(default=0.2, ge=0)
    """Largest part of the characters in such lines."""

    max_most_frequent: list[PhraseLimit] = Field(default_factory=lambda: _limits(n2=0.2, n3=0.18, n4=0.16))
    """Largest part of the characters in the most frequent phrase, by its number of words."""

    max_repeated_phrases: list[PhraseLimit] = Field(
        default_factory=lambda: _limits(n5=0.15, n6=0.14, n7=0.13, n8=0.12, n9=0.11, n10=0.10)
    )
    """Largest part of the characters in phrases that repeat an earlier one, by their number of words."""

    def reason_of(self, text: str) -> str | None:
        words = text.split()
        return self._reason_by_lines(text) or self._reason_by_phrases(text, words)

    def reasons(self, batch: DocumentBatch, seen: TextFacts) -> Sequence[str | None]:
        """Phrases are counted one by one in those texts alone where an upper bound is above a limit, and not exact."""
        import numpy as np

        found = list(map(self._reason_by_lines, batch.texts))
        passed = [number for number, reason in enumerate(found) if reason is None]
        fails, is_in_doubt = self._bounded([batch.texts[number] for number in passed])
        for place in np.flatnonzero(fails):
            found[passed[place]] = _FREQUENT
        for place in np.flatnonzero(is_in_doubt & ~fails):
            text = batch.texts[passed[place]]
            found[passed[place]] = self._reason_by_phrases(text, text.split())
        return found

    def _reason_by_lines(self, text: str) -> str | None:
        if not text:
            return "empty to gopher_repetition"
        if "\n\n" in text:
            paragraphs = _PARAGRAPH_ENDS.split(text.strip())
            if _repeat(paragraphs, self.max_repeated_paragraphs, self.max_repeated_paragraph_chars, len(text)):
                return "more repeated paragraphs than gopher_repetition"
            lines = _LINE_ENDS.split(text)
        else:
            lines = text.split("\n")
        if _repeat(lines, self.max_repeated_lines, self.max_repeated_line_chars, len(text)):
            return "more repeated lines than gopher_repetition"
        return None

    def _reason_by_phrases(self, text: str, words: Sequence[str]) -> str | None:
        if any(_most_frequent(words, one.words) / len(text) > one.value for one in self.max_most_frequent):
            return _FREQUENT
        if any(_repeated(words, one.words) / len(text) > one.value for one in self.max_repeated_phrases):
            return "more repeated phrases than gopher_repetition"
        return None

    def _bounded(self, texts: Sequence[str]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which texts have too frequent a phrase for certain, and which may have too much of phrases."""
        import numpy as np

        from pipeline.corpus.phrase_bounds import PhraseBounds, pieces

        lengths = np.array([len(text) for text in texts])
        fails, is_in_doubt = np.zeros(len(texts), dtype=bool), np.ones(len(texts), dtype=bool)
        for piece in pieces(texts):
            bounds = PhraseBounds(texts[piece])
            is_in_doubt[piece] = False
            for one in self.max_most_frequent:
                most, is_exact = bounds.most_frequent(one.words)
                is_above = most / lengths[piece] > one.value
                fails[piece] |= is_above & is_exact
                is_in_doubt[piece] |= is_above
            for one in self.max_repeated_phrases:
                is_in_doubt[piece] |= bounds.repeated(one.words) / lengths[piece] > one.value
        return fails, is_in_doubt


def _repeat(parts: Sequence[str], max_parts: float | None, max_chars: float | None, num_chars: int) -> bool:
    """Whether too many parts of a text, or too much of its characters, repeat an earlier one."""
    distinct = set(parts)
    num_repeated = len(parts) - len(distinct)
    if max_parts is not None and num_repeated / len(parts) > max_parts:
        return True
    if max_chars is None or num_repeated == 0:
        return False
    return (sum(map(len, parts)) - sum(map(len, distinct))) / num_chars > max_chars


def _most_frequent(words: Sequence[str], n: int) -> int:
    """Length of the most frequent phrase, the first of several, times how often it stands there."""
    phrases = Counter(" ".join(words[place : place + n]) for place in range(len(words) - n + 1))
    return sum(len(phrase) * times for phrase, times in phrases.most_common(1))


def _repeated(words: Sequence[str], n: int) -> int:
    """Characters, without white space, in phrases that stood there before; they do not overlap."""
    before: set[str] = set()
    place = num_chars = 0
    while place <= len(words) - n:
        phrase = "".join(words[place : place + n])
        if phrase in before:
            num_chars += len(phrase)
            place += n
        else:
            before.add(phrase)
            place += 1
    return num_chars
