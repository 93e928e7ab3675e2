"""Filters: which documents are worth learning from. A new one is a file here and a line in FILTERS."""

from pipeline.corpus.filters.base_editing_filter import EditingFilter
from pipeline.corpus.filters.base_filter import Filter
from pipeline.corpus.filters.block_list import BlockList
from pipeline.corpus.filters.c4_quality import C4Quality
from pipeline.corpus.filters.fasttext import Fasttext
from pipeline.corpus.filters.fineweb_quality import FinewebQuality
from pipeline.corpus.filters.gopher_quality import GopherQuality
from pipeline.corpus.filters.gopher_repetition import GopherRepetition
from pipeline.corpus.filters.language import Language
from pipeline.corpus.filters.max_bullet_lines import MaxBulletLines
from pipeline.corpus.filters.max_bytes import MaxBytes
from pipeline.corpus.filters.max_chars import MaxChars
from pipeline.corpus.filters.max_digit_ratio import MaxDigitRatio
from pipeline.corpus.filters.max_ellipsis_lines import MaxEllipsisLines
from pipeline.corpus.filters.max_hash_ratio import MaxHashRatio
from pipeline.corpus.filters.max_symbol_ratio import MaxSymbolRatio
from pipeline.corpus.filters.max_words import MaxWords
from pipeline.corpus.filters.mean_word_length import MeanWordLength
from pipeline.corpus.filters.min_alphabetic_ratio import MinAlphabeticRatio
from pipeline.corpus.filters.min_bytes import MinBytes
from pipeline.corpus.filters.min_chars import MinChars
from pipeline.corpus.filters.min_stop_words import MinStopWords
from pipeline.corpus.filters.min_words import MinWords
from pipeline.corpus.filters.regex_filter import RegexFilter
from pipeline.corpus.filters.url_block_list import UrlBlockList

FILTERS = (
    MinChars,
    MaxChars,
    MinWords,
    MaxWords,
    MinBytes,
    MaxBytes,
    MinAlphabeticRatio,
    MaxDigitRatio,
    MaxSymbolRatio,
    MaxBulletLines,
    MaxEllipsisLines,
    MaxHashRatio,
    MeanWordLength,
    MinStopWords,
    GopherQuality,
    GopherRepetition,
    C4Quality,
    FinewebQuality,
    RegexFilter,
    BlockList,
    UrlBlockList,
    Language,
    Fasttext,
)

__all__ = ["FILTERS", "EditingFilter", "Filter"]
