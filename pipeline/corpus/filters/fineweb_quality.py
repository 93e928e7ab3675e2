"""The rules that FineWeb adds to those of C4 and Gopher."""

from __future__ import annotations

from functools import cache
from typing import Any, ClassVar

from pydantic import Field

from pipeline.corpus.filters.base_text_filter import TextFilter, share_of


class FinewebQuality(TextFilter, type="fineweb_quality"):
    """Drop documents by the rules that FineWeb adds to those of C4 (Penedo et al. 2024).

    They have few lines that end like a sentence, many short or repeated ones, or are lists. Blank lines do not count.
    """

    libraries: ClassVar[tuple[str, ...]] = ("regex",)

    min_sentence_lines: float = Field(default=0.12, ge=0, le=1)
    """Smallest part of the lines that end like a sentence (Unicode's Sentence_Terminal)."""

    max_short_lines: float = Field(default=0.67, ge=0, le=1)
    """Largest part of the lines that have at most `short_line_chars` characters."""

    short_line_chars: int = Field(default=30, ge=1)
    """Most characters of a short line."""

    max_repeated_chars: float = Field(default=0.01, ge=0, le=1)
    """Largest part of the characters in lines that repeat an earlier one."""

    max_lines_per_word: float = Field(default=0.3, ge=0)
    """Most line feeds a word. Words are runs of characters between white space."""

    def reason_of(self, text: str) -> str | None:
        lines = [line for line in text.split("\n") if line.strip()]
        if not lines:
            return "empty to fineweb_quality"
        if share_of([_ends_sentence()(line[-1]) for line in lines]) < self.min_sentence_lines:
            return "fewer lines that end like a sentence than fineweb_quality"
        if share_of([len(line) <= self.short_line_chars for line in lines]) > self.max_short_lines:
            return "more short lines than fineweb_quality"
        num_chars = len(text) - text.count("\n")
        repeated = sum(map(len, lines)) - sum(map(len, set(lines)))
        if repeated > self.max_repeated_chars * num_chars:
            return "more repeated lines than fineweb_quality"
        if text.count("\n") > self.max_lines_per_word * len(text.split()):
            return "more line feeds than fineweb_quality"
        return None


@cache
def _ends_sentence() -> Any:
    import regex

    matches = regex.compile(r"\p{Sentence_Terminal}").match
    return cache(lambda char: matches(char) is not None)
