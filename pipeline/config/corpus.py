"""The sections `ingest:`, `normalize:`, `curate:` and `augment:`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pipeline.config.base import Section
from pipeline.config.sources import AnySource

Share = Annotated[float, Field(ge=0, le=1)]


class IngestConfig(Section):
    """Where raw text comes from."""

    sources: list[AnySource] = Field(min_length=1)
    """Sources, read in this order."""

    max_rejected_fraction: Share = 0.01
    """The part of a source's records that may be unusable, and the part of its bytes that may lie in files that cannot
    be read to their end; above it the stage fails. rejected.jsonl lists the first of them."""

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        names = [source.name for source in self.sources]
        repeated = [name for name in names if names.count(name) > 1]
        if repeated:
            raise ValueError(f"two sources are named {repeated[0]!r}; give each its own name")
        return self


class NormalizeConfig(Section):
    """Repair and unify the text of each document. Operations act in the order in which they stand here."""

    fix_unicode: bool = True
    """Repair mojibake, HTML entities, ligatures, curly quotes and other damage with ftfy."""

    unicode_form: Literal["NFC", "NFD", "NFKC", "NFKD", "none"] = "NFC"
    """Unicode normalization form (Unicode Standard Annex 15)."""

    strip_control_characters: bool = True
    """Remove control characters other than newline and tab; page breaks and foreign line ends become newlines."""

    collapse_whitespace: bool = True
    """Remove white space at line ends, outer blank lines, and more than two blank lines in a row. Indentation stays."""

    lowercase: bool = False
    """Turn all letters into lower case."""

    remove_punctuation: bool = False
    """Remove punctuation (Unicode categories P)."""


class CurateConfig(Section):
    """Which documents stay, and which split each belongs to."""

    min_chars: int = Field(default=50, ge=0)
    """Fewest characters of a document."""

    max_chars: int | None = Field(default=None, ge=1)
    """Most characters of a document. Null sets no limit."""

    min_words: int = Field(default=5, ge=0)
    """Fewest words of a document."""

    min_alphabetic_ratio: Share = 0.5
    """Smallest part of a document's visible characters that are letters (of any script, with their marks)."""

    max_digit_ratio: Share = 0.3
    """Largest part of a document's visible characters that are digits."""

    max_symbol_ratio: Share = 0.4
    """Largest part of a document's visible characters that are punctuation or symbols."""

    deduplicate: Literal["exact", "none"] = "exact"
    """`exact` drops documents that repeat an earlier one up to case and white space."""

    validation_fraction: float = Field(default=0.05, gt=0, lt=1)
    """Part of the documents held out to watch training."""

    test_fraction: float = Field(default=0.05, gt=0, lt=1)
    """Part of the documents held out for the final evaluation."""

    @model_validator(mode="after")
    def _leaves_documents_to_train_on(self) -> Self:
        if self.validation_fraction + self.test_fraction >= 1:
            raise ValueError(
                "validation_fraction and test_fraction leave nothing to train on; their sum must be below 1"
            )
        if self.max_chars is not None and self.max_chars < self.min_chars:
            raise ValueError(f"max_chars {self.max_chars} is less than min_chars {self.min_chars}")
        return self


class SynonymOperation(Section):
    """Replace words by others of the same group of a lexicon."""

    type: Literal["synonym"]
    """Synonym replacement (nlpaug's ReservedAug)."""

    probability: float = Field(default=0.1, gt=0, le=1)
    """Chance of each word found in the lexicon to be replaced."""

    lexicon: Path | None = None
    """File with a group of interchangeable words a line, separated by commas. Null takes the shipped one."""


class KeyboardOperation(Section):
    """Mistype words: letters replaced by their neighbours on the keyboard."""

    type: Literal["keyboard"]
    """Keyboard noise (nlpaug's KeyboardAug)."""

    probability: float = Field(default=0.02, gt=0, le=1)
    """Chance of each plain word of four letters or more to be mistyped."""


class AugmentConfig(Section):
    """Altered copies of documents of the training split. Originals always stay."""

    operations: list[Annotated[SynonymOperation | KeyboardOperation, Field(discriminator="type")]] = Field(
        default_factory=list
    )
    """What is done to a copy, in this order."""

    fraction: Share = 0.0
    """Part of the training documents that get altered copies."""

    copies: int = Field(default=1, ge=1, le=100)
    """Altered copies of each chosen document."""

    @model_validator(mode="after")
    def _has_something_to_do(self) -> Self:
        if self.fraction > 0 and not self.operations:
            raise ValueError("fraction is above 0 but operations is empty; add a synonym or keyboard operation")
        return self
