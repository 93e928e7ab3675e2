"""Texts that no document of the corpus may hold: those by which models are compared."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from pipeline.corpus.ingest_config import AnySource
from pipeline.section import Section

SETTING = "curate.decontaminate.against"


class Decontamination(Section):
    """Drop documents that have runs of words in common with benchmarks (Brown et al. 2020, "Language Models are
    Few-Shot Learners", appendix C). Case, punctuation and white space do not count. Documents of sources with
    `split: test` or `validation` stay."""

    against: list[AnySource] = Field(min_length=1)
    """Benchmarks, as sources are written. Their texts are compared as they stand in the files. `split` means
    nothing here."""

    ngram_words: int = Field(default=13, ge=8, le=100)
    """Words in a run. A benchmark's text with fewer is looked for as a whole, if it has 8 words or more."""

    max_share: float = Field(default=0.0, ge=0, lt=1)
    """The part of a document's runs that benchmarks may have, too. At 0 one run is enough to drop it."""

    @model_validator(mode="after")
    def _sources_know_where_they_stand(self) -> Self:
        for source in self.against:
            source.stands_in(SETTING)
        return self

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        names = [source.name for source in self.against]
        if repeated := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"two benchmarks are named {repeated[0]!r}; give each its own name")
        return self
