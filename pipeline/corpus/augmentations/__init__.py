"""Augmentations. A new one is a file here and a line in AUGMENTATIONS."""

from pipeline.corpus.augmentations.antonym import Antonym
from pipeline.corpus.augmentations.any_nlpaug import AnyNlpaug
from pipeline.corpus.augmentations.back_translation import BackTranslation
from pipeline.corpus.augmentations.base_augmentation import Augmentation, Draw
from pipeline.corpus.augmentations.crop import Crop
from pipeline.corpus.augmentations.delete import Delete
from pipeline.corpus.augmentations.insert import Insert
from pipeline.corpus.augmentations.keyboard import Keyboard
from pipeline.corpus.augmentations.masked_lm import MaskedLm
from pipeline.corpus.augmentations.ocr import Ocr
from pipeline.corpus.augmentations.ppdb import Ppdb
from pipeline.corpus.augmentations.spelling import Spelling
from pipeline.corpus.augmentations.split_words import SplitWords
from pipeline.corpus.augmentations.swap import Swap
from pipeline.corpus.augmentations.synonym import Synonym
from pipeline.corpus.augmentations.tf_idf import TfIdf
from pipeline.corpus.augmentations.wordnet import WordNet
from pipeline.corpus.edits import Edit

_REPLACED = (Synonym, WordNet, Ppdb, Antonym, TfIdf)
_MISTAKEN = (Keyboard, Ocr, Spelling, SplitWords)
_MOVED = (Insert, Swap, Delete, Crop)
_BY_MODELS = (MaskedLm, BackTranslation)
AUGMENTATIONS = (*_REPLACED, *_MISTAKEN, *_MOVED, *_BY_MODELS, AnyNlpaug)

__all__ = ["AUGMENTATIONS", "Augmentation", "Draw", "Edit"]
