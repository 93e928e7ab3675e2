"""Filters name their reasons; splits depend on the text alone."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import yaml
from corpus_values import batch_of, split_of_hash
from pydantic import ValidationError

from pipeline.corpus.curate_config import CurateConfig, reasons_to_drop
from pipeline.corpus.documents import Document
from pipeline.corpus.ingest_config import IngestConfig
from pipeline.corpus.repeats import text_hash

RATIOS = [{"type": "min_alphabetic_ratio"}, {"type": "max_digit_ratio"}, {"type": "max_symbol_ratio"}]


def few_letters(ratio: float) -> list[dict[str, object]]:
    return [{"type": "min_alphabetic_ratio", "value": ratio}, *RATIOS[1:]]


@pytest.mark.parametrize(
    ("text", "filters", "reason"),
    [
        ("A sentence of seven plain words here.", RATIOS, None),
        ("Too short to stay.", [{"type": "min_chars", "value": 30}], "shorter than min_chars"),
        ("word " * 30, [{"type": "max_chars", "value": 100}], "longer than max_chars"),
        ("Twowords only", [{"type": "min_words", "value": 3}], "fewer than min_words"),
        ("Three words now", [{"type": "min_words", "value": 3}], None),
        ("ab 12 !! ?? %% ..", RATIOS, "fewer letters than min_alphabetic_ratio"),
        ("abc 123 abc 123 a", few_letters(0.2), "more digits than max_digit_ratio"),
        ("ab (..) cd [--] ef", few_letters(0.2), "more symbols than max_symbol_ratio"),
        ("12 !", [{"type": "min_chars", "value": 9}, *RATIOS], "shorter than min_chars"),
        ("12 !", [*RATIOS, {"type": "min_chars", "value": 9}], "fewer letters than min_alphabetic_ratio"),
        (" \n\t ", RATIOS, "no visible characters"),
        (" \u200b ", [], "no visible characters"),
        ("12 !", [], None),
        ("हिन्दी में लिखा हुआ एक वाक्य", few_letters(0.99), None),
        ("Größe über alles schön, ja wirklich", few_letters(0.9), None),
    ],
)
def test_the_first_filter_that_a_document_fails_names_the_reason(
    text: str, filters: list[dict[str, object]], reason: str | None
) -> None:
    section = CurateConfig.model_validate({"filters": filters})
    (failed,) = reasons_to_drop(batch_of([Document("1", text, "s", "o")]), section.filters)
    assert (failed and failed[1]) == reason


def test_limits_that_once_were_settings_are_refused_with_the_line_to_write() -> None:
    with pytest.raises(ValidationError) as error:
        CurateConfig.model_validate({"min_chars": 20, "max_chars": 900, "validation_fraction": 0.1})
    line = str(error.value.errors()[0]["ctx"]["error"]).partition("; write ")[2]
    meant = CurateConfig.model_validate(yaml.safe_load(line))
    assert [(one.type, one.model_dump()["value"]) for one in meant.filters] == [
        ("min_chars", 20),
        ("max_chars", 900),
        ("min_words", 5),
        ("min_alphabetic_ratio", 0.5),
        ("max_digit_ratio", 0.3),
        ("max_symbol_ratio", 0.4),
    ]


def test_splits_have_their_share_and_follow_the_text() -> None:
    section = CurateConfig(validation_fraction=0.1, test_fraction=0.2)
    splits = [split_of_hash(text_hash(f"document number {n}"), section) for n in range(5000)]
    assert abs(splits.count("test") / 5000 - 0.2) < 0.03
    assert abs(splits.count("validation") / 5000 - 0.1) < 0.03
    assert splits == [split_of_hash(text_hash(f"  Document  NUMBER {n}\n"), section) for n in range(5000)]


def test_growing_one_fraction_moves_nothing_between_the_others() -> None:
    texts = [f"document number {n}" for n in range(2000)]
    small = [split_of_hash(text_hash(text), CurateConfig(validation_fraction=0.1, test_fraction=0.1)) for text in texts]
    large = [split_of_hash(text_hash(text), CurateConfig(validation_fraction=0.1, test_fraction=0.3)) for text in texts]
    assert all(
        after == before or (before, after) == ("train", "test") for before, after in zip(small, large, strict=True)
    )


@pytest.mark.parametrize(
    ("thresholds", "problem"),
    [
        ({"drop_at": 0.5, "same_split_at": 0.6}, "same_split_at 0.6 is above drop_at 0.5"),
        ({"drop_at": None, "same_split_at": None}, "write near_duplicates: null"),
        ({"drop_at": 1.1}, "less than or equal to 1"),
    ],
)
def test_thresholds_of_near_duplicates_make_sense_together(thresholds: dict[str, object], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        CurateConfig.model_validate({"near_duplicates": thresholds})


@pytest.mark.parametrize(
    ("curate", "to_split", "problem"),
    [
        ({"test_fraction": 0}, [None, None], "test_fraction is 0 and no source goes there"),
        ({"validation_fraction": 0}, ["test", None], "give a source `split: validation`"),
        ({"deduplicate": "none"}, ["train", None], "set it to exact, or give every source a `split`"),
        ({"deduplicate": "none"}, ["train", "test"], None),
        ({"deduplicate": "none"}, [None, "test"], None),
        ({"test_fraction": 0}, [None, "test"], None),
    ],
)
def test_every_split_can_get_documents_and_no_text_stands_in_two(
    curate: dict[str, object], to_split: list[str | None], problem: str | None
) -> None:
    sources = [
        {"name": f"s{n}", "type": "text", "paths": ["a.txt"], **({"split": split} if split else {})}
        for n, split in enumerate(to_split)
    ]
    ingest = IngestConfig.model_validate({"sources": sources})

    def check() -> None:
        CurateConfig.model_validate(curate).check_fits(SimpleNamespace(ingest=ingest))

    if problem is None:
        check()
        return
    with pytest.raises(ValueError, match=problem):
        check()
