"""Augmentations. A new one is a file here and a line in AUGMENTATIONS."""

from pipeline.corpus.augmentations.base_augmentation import Augmentation, Draw
from pipeline.corpus.augmentations.keyboard import Keyboard
from pipeline.corpus.augmentations.synonym import Synonym
from pipeline.corpus.edits import Edit

AUGMENTATIONS = (Synonym, Keyboard)

__all__ = ["AUGMENTATIONS", "Augmentation", "Draw", "Edit"]
