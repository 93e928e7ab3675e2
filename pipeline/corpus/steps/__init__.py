"""Normalization steps. A new one is a file here and a line in STEPS."""

from pipeline.corpus.steps.base_step import Step
from pipeline.corpus.steps.collapse_spaces import CollapseSpaces
from pipeline.corpus.steps.collapse_whitespace import CollapseWhitespace
from pipeline.corpus.steps.fix_unicode import FixUnicode
from pipeline.corpus.steps.html_step import Html
from pipeline.corpus.steps.lowercase import Lowercase
from pipeline.corpus.steps.mask import Mask
from pipeline.corpus.steps.numbers import Numbers
from pipeline.corpus.steps.quotes_and_dashes import QuotesAndDashes
from pipeline.corpus.steps.regex_step import RegexStep
from pipeline.corpus.steps.remove_accents import RemoveAccents
from pipeline.corpus.steps.remove_punctuation import RemovePunctuation
from pipeline.corpus.steps.strip_control_characters import StripControlCharacters
from pipeline.corpus.steps.unicode_form import UnicodeForm

STEPS = (
    Html,
    FixUnicode,
    UnicodeForm,
    StripControlCharacters,
    CollapseWhitespace,
    CollapseSpaces,
    QuotesAndDashes,
    Lowercase,
    RemoveAccents,
    RemovePunctuation,
    Numbers,
    Mask,
    RegexStep,
)

__all__ = ["STEPS", "Step"]
