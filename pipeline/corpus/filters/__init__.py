"""Filters: which documents are worth learning from. A new one is a file here and a line in FILTERS."""

from pipeline.corpus.filters.base_filter import Filter
from pipeline.corpus.filters.max_chars import MaxChars
from pipeline.corpus.filters.max_digit_ratio import MaxDigitRatio
from pipeline.corpus.filters.max_symbol_ratio import MaxSymbolRatio
from pipeline.corpus.filters.min_alphabetic_ratio import MinAlphabeticRatio
from pipeline.corpus.filters.min_chars import MinChars
from pipeline.corpus.filters.min_words import MinWords

FILTERS = (MinChars, MaxChars, MinWords, MinAlphabeticRatio, MaxDigitRatio, MaxSymbolRatio)

__all__ = ["FILTERS", "Filter"]
