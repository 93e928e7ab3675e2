"""Normalization steps. A new one is a file here and a line in STEPS."""

from pipeline.corpus.steps.base_step import Step
from pipeline.corpus.steps.collapse_whitespace import CollapseWhitespace
from pipeline.corpus.steps.fix_unicode import FixUnicode
from pipeline.corpus.steps.lowercase import Lowercase
from pipeline.corpus.steps.remove_punctuation import RemovePunctuation
from pipeline.corpus.steps.strip_control_characters import StripControlCharacters
from pipeline.corpus.steps.unicode_form import UnicodeForm

STEPS = (FixUnicode, UnicodeForm, StripControlCharacters, CollapseWhitespace, Lowercase, RemovePunctuation)

__all__ = ["STEPS", "Step"]
