"""The settings of ingest: sources of raw text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Self

from pydantic import Field, model_validator

from pipeline.corpus.sources import SOURCES, Source
from pipeline.features import one_of
from pipeline.section import Section

if TYPE_CHECKING:
    AnySource = Source
else:
    AnySource = one_of(SOURCES, Source)


class IngestConfig(Section):
    """Where raw text comes from."""

    sources: list[AnySource] = Field(min_length=1)
    """Sources, read in this order."""

    max_rejected_fraction: Annotated[float, Field(ge=0, le=1)] = 0.01
    """The part of a source's records that may be unusable, and the part of its bytes that may lie in files that cannot
    be read to their end; above it the stage fails. rejected.jsonl lists the first of them."""

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        names = [source.name for source in self.sources]
        repeated = [name for name in names if names.count(name) > 1]
        if repeated:
            raise ValueError(f"two sources are named {repeated[0]!r}; give each its own name")
        return self
