"""The rules of quality of Gopher."""

from __future__ import annotations

import re

from pydantic import Field

from pipeline.corpus.filters.base_text_filter import TextFilter, share_of
from pipeline.corpus.filters.max_bullet_lines import bullet_lines
from pipeline.corpus.filters.max_ellipsis_lines import ellipsis_lines
from pipeline.corpus.filters.mean_word_length import word_lengths
from pipeline.corpus.filters.min_stop_words import STOP_WORDS

_LETTER = re.compile(r"[^\W\d_]")


class GopherQuality(TextFilter, type="gopher_quality"):
    """Drop documents by the rules of quality of Gopher (Rae et al. 2021, appendix A.1.1), which are made for English.

    Words are runs of characters between white space; those without a letter or digit do not count as words in the
    limits of number and length.
    """

    min_words: int = Field(default=50, ge=0)
    """Fewest words."""

    max_words: int = Field(default=100_000, ge=1)
    """Most words."""

    min_mean_word_length: float = Field(default=3, ge=0)
    """Smallest mean length of a word, in characters."""

    max_mean_word_length: float = Field(default=10, ge=1)
    """Largest mean length of a word."""

    max_symbols_per_word: float = Field(default=0.1, ge=0)
    """Most hash signs a word, and most ellipses a word."""

    max_bullet_lines: float = Field(default=0.9, ge=0, le=1)
    """Largest part of the lines that begin with a bullet."""

    max_ellipsis_lines: float = Field(default=0.3, ge=0, le=1)
    """Largest part of the lines that end with an ellipsis."""

    min_alphabetic_words: float = Field(default=0.8, ge=0, le=1)
    """Smallest part of the words that have a letter."""

    min_stop_words: int = Field(default=2, ge=0)
    """Fewest different words of `stop_words`."""

    stop_words: list[str] = Field(default=list(STOP_WORDS))
    """Words that any prose has, as they are written."""

    def reason_of(self, text: str) -> str | None:
        words = text.split()
        lengths = word_lengths(words)
        if len(lengths) < self.min_words:
            return "fewer words than gopher_quality"
        if len(lengths) > self.max_words:
            return "more words than gopher_quality"
        if not lengths:
            return None
        mean = sum(lengths) / len(lengths)
        if not self.min_mean_word_length <= mean <= self.max_mean_word_length:
            return "words too short or too long for gopher_quality"
        most_symbols = self.max_symbols_per_word * len(words)
        if max(text.count("#"), text.count("...") + text.count("…")) > most_symbols:
            return "more hash signs or ellipses than gopher_quality"
        if bullet_lines(text) > self.max_bullet_lines:
            return "more bullets than gopher_quality"
        if ellipsis_lines(text) > self.max_ellipsis_lines:
            return "more lines with an ellipsis than gopher_quality"
        if share_of([_LETTER.search(word) is not None for word in words]) < self.min_alphabetic_words:
            return "fewer words with letters than gopher_quality"
        if len(set(self.stop_words).intersection(words)) < self.min_stop_words:
            return "fewer stop words than gopher_quality"
        return None
