"""Which documents stay, and which split each belongs to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, model_validator

from pipeline.corpus.decontamination_config import Decontamination
from pipeline.corpus.filters import FILTERS, EditingFilter, Filter
from pipeline.corpus.filters.max_digit_ratio import MaxDigitRatio
from pipeline.corpus.filters.max_symbol_ratio import MaxSymbolRatio
from pipeline.corpus.filters.min_alphabetic_ratio import MinAlphabeticRatio
from pipeline.corpus.filters.min_chars import MinChars
from pipeline.corpus.filters.min_words import MinWords
from pipeline.corpus.near_duplicates_config import NearDuplicates
from pipeline.corpus.paragraphs_config import RepeatedParagraphs
from pipeline.errors import ConfigError
from pipeline.features import one_of
from pipeline.section import Section

if TYPE_CHECKING:
    from pipeline.corpus.document_batches import DocumentBatch

    AnyFilter = Filter
else:
    AnyFilter = one_of(FILTERS, Filter)


class CurateConfig(Section):
    """Which documents stay, and which split each belongs to."""

    filters: list[AnyFilter] = Field(
        default_factory=lambda: [MinChars(), MinWords(), MinAlphabeticRatio(), MaxDigitRatio(), MaxSymbolRatio()]
    )
    """What a document has to pass, in this order; the first that it fails names the reason. What has no visible
    character is always dropped."""

    deduplicate: Literal["exact", "none"] = "exact"
    """`exact` drops documents that repeat an earlier one up to case and white space. `none` keeps them, and
    near-duplicates as well."""

    near_duplicates: NearDuplicates | None = Field(default_factory=NearDuplicates)
    """Drop documents that are like an earlier one, and keep those that are less so in one split. Null does neither."""

    decontaminate: Decontamination | None = None
    """Drop documents that hold pieces of benchmarks."""

    deduplicate_paragraphs: RepeatedParagraphs | None = None
    """Take out of documents the paragraphs that stand in another one before. Null takes none."""

    validation_fraction: float = Field(default=0.05, ge=0, lt=1)
    """Part of the documents held out to watch training, of sources without `split`. 0 takes those of sources with
    `split: validation` alone."""

    test_fraction: float = Field(default=0.05, ge=0, lt=1)
    """Part of the documents held out for the final evaluation, likewise."""

    @model_validator(mode="before")
    @classmethod
    def _filters_are_a_list(cls, values: Any) -> Any:
        """Limits once were settings of their own."""
        names = [kind.model_fields["type"].default for kind in FILTERS]
        given = {name: values[name] for name in names if name in values} if isinstance(values, dict) else {}
        if given:
            limits = {one.type: one.model_dump()["value"] for one in cls().filters} | given
            kept = [f"{{type: {name}, value: {limits[name]}}}" for name in names if limits.get(name) is not None]
            raise ValueError(f"{next(iter(given))} is a filter; write filters: [{', '.join(kept)}]")
        return values

    @model_validator(mode="after")
    def _leaves_documents_to_train_on(self) -> Self:
        if self.validation_fraction + self.test_fraction >= 1:
            raise ValueError(
                "validation_fraction and test_fraction leave nothing to train on; their sum must be below 1"
            )
        return self

    @property
    def likeness(self) -> NearDuplicates | None:
        """What is done with documents that are alike; None where nothing is."""
        near = self.near_duplicates
        if near is None or self.deduplicate == "exact":
            return near
        return None if near.same_split_at is None else near.model_copy(update={"drop_at": None})

    def check_fits(self, whole: Any) -> None:
        """Every split gets documents, and no text can stand both in training and in a held-out split."""
        if whole.ingest is None:
            return
        given = [source.split for source in whole.ingest.sources]
        for split in ("validation", "test"):
            if getattr(self, f"{split}_fraction") == 0 and split not in given:
                raise ValueError(
                    f"curate.{split}_fraction is 0 and no source goes there; raise it, or give a source "
                    f"`split: {split}`"
                )
        if self.deduplicate == "none" and "train" in given and None in given:
            raise ValueError(
                "curate.deduplicate none would let a text stand in a source with `split: train` and by chance in "
                "another's test documents; set it to exact, or give every source a `split`"
            )


DropReason = tuple[str, str]
"""The type of the filter that a document failed, and why. The type is empty where no filter was asked."""


def reasons_to_drop(batch: DocumentBatch, filters: Sequence[Filter]) -> list[DropReason | None]:
    """For each document the first filter that it fails; None when it may stay. Each filter is asked of those alone that
    passed the ones before. What has no visible text fails no filter, and is dropped all the same.

    Filters may take parts of texts away; `batch.texts` then has what stays of documents that stay.
    """
    import numpy as np

    from pipeline.corpus.text_facts import TextFacts

    found: list[DropReason | None] = [None] * len(batch)
    left, seen, whole = np.arange(len(batch)), TextFacts(batch.texts), batch
    for one in filters:
        given: Sequence[str | None]
        if isinstance(one, EditingFilter):
            answers = list(map(one.edited, batch.texts))
            given = [reason for _, reason in answers]
            batch = replace(batch, texts=[text for text, _ in answers])
            seen = TextFacts(batch.texts)
        else:
            given = one.reasons(batch, seen)
        failed = np.array([bool(reason) for reason in given], dtype=bool)
        for number in np.flatnonzero(failed).tolist():
            reason = given[number]
            if not isinstance(reason, str):
                raise ConfigError(f"{one.type}: reason_to_drop gave {reason!r}; it gives a reason in words, or None")
            found[left[number]] = (one.type, reason)
        batch, seen, left = batch.keep(~failed), seen.keep(~failed), left[~failed]
    for number, text in zip(left.tolist(), batch.texts, strict=True):
        whole.texts[number] = text
    for number in left[seen.kinds.visible == 0].tolist():
        found[number] = ("", "no visible characters")
    return found
