"""Labels of every type and spelling have one normal form; different ones that look the same are told."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from corpus.test_formats import content, make_source, read

from pipeline.corpus.documents import Rejected
from pipeline.corpus.label_forms import LabelError, alike_labels, like_none, normal_label


@pytest.fixture(autouse=True)
def in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("values", "label"),
    [
        ([1, 1.0, Decimal("1.00"), "1", "1.0", " 1 ", b"1.0"], "1"),
        ([0, 0.0, -0.0, Decimal("-0"), "0", "0.0", "-0.0"], "0"),
        ([-3, -3.0, "-3.0"], "-3"),
        ([2**53, float(2**53)], "9007199254740992"),
        ([2**60], "1152921504606846976"),
        ([float(2**60)], "1.152921504606847e+18"),
        ([True, "true", "True", "TRUE"], "true"),
        ([False, "False"], "false"),
        ([0.1, "0.1", Decimal("0.10")], "0.1"),
        ([2.5e-7], "2.5e-07"),
        (["pos", " pos", "pos\r"], "pos"),
        (["Pos"], "Pos"),
        (["1.10"], "1.10"),  # which may be a version or the number of a section
        (["007"], "007"),
        ([10**400], "1" + "0" * 400),
        ([[1, "ü"]], '[1, "ü"]'),
        ([None, float("nan"), Decimal("NaN"), "", "  ", "nan", "NaN"], None),
    ],
)
def test_one_normal_form(values: list[Any], label: str | None) -> None:
    assert {normal_label(value) for value in values} == {label}


@pytest.mark.parametrize("value", [b"b\xffd", float("inf"), -float("inf"), "a\0"])
def test_labels_that_are_none(value: Any) -> None:
    with pytest.raises(LabelError):
        normal_label(value)


def test_integers_in_one_file_and_floats_in_another_are_one_set_of_classes() -> None:
    whole = pd.DataFrame({"text": [f"text {n}" for n in range(6)], "label": [n % 2 for n in range(6)]})
    holes = whole.assign(label=[0, 1, None, 1, 0, None])
    assert holes["label"].dtype == float  # pandas has made it so
    expected = {"whole": ["0", "1"] * 3, "holes": ["0", "1", None, "1", "0", None]}
    for name, frame in (("whole", whole), ("holes", holes)):
        frame.to_json(f"{name}.jsonl", orient="records", lines=True)
        frame.to_json(f"{name}.json", orient="records")
        frame.to_csv(f"{name}.csv", index=False)
        frame.to_csv(f"{name}.tsv", index=False, sep="\t")
        frame.to_parquet(f"{name}.parquet")
        frame.to_feather(f"{name}.feather")
        frame.astype({"label": "category"}).to_parquet(f"{name}-category.parquet")
        frame.astype({"label": "float32"}).to_parquet(f"{name}-float32.parquet")
        frame.astype({"label": "Int64"}).to_parquet(f"{name}-nullable.parquet")
    kinds = {"jsonl": "jsonl", "json": "json", "csv": "csv", "tsv": "csv", "parquet": "parquet", "feather": "arrow"}
    for path in Path().iterdir():
        source = make_source(kinds[path.suffix[1:]], paths=[str(path)], label_field="label")
        assert [label for _, label in content(source)] == expected[path.stem.split("-")[0]], path


def test_narrow_floats_have_no_more_digits_than_they_can_tell_apart() -> None:
    numbers = pa.array([0.1, 2.5, None, float("nan")], pa.float32())
    table = pa.table({"text": ["a", "b", "c", "d"], "score": numbers, "coded": numbers.dictionary_encode()})
    pq.write_table(table, "a.parquet")
    for name in ("score", "coded"):
        labels = [label for _, label in content(make_source("parquet", paths=["a.parquet"], label_field=name))]
        assert labels == ["0.1", "2.5", None, None]
    texts = read(make_source("parquet", paths=["a.parquet"], text_template="{text} {score}"))
    assert [r.reason if isinstance(r, Rejected) else r.text for r in texts] == [
        "a 0.1",
        "b 2.5",
        "field 'score' is null",
        "field 'score' is null",
    ]


def test_unusable_labels_are_rejected_with_their_place() -> None:
    Path("a.jsonl").write_text('{"text": "a", "label": Infinity}\n{"text": "b", "label": "x\\u0000"}\n')
    records = read(make_source("jsonl", paths=["a.jsonl"], label_field="label"))
    assert [(r.origin, r.reason) for r in records if isinstance(r, Rejected)] == [
        ("a.jsonl:1", "label is infinite"),
        ("a.jsonl:2", "label has NUL bytes"),
    ]


def test_labels_that_look_the_same_are_grouped() -> None:
    labels = ["pos", "Pos", "neg", "1", "1.00", "01", "true", "very good", "Very  Good", "é", "e\u0301", "neutral"]
    assert alike_labels(labels) == [
        ["01", "1", "1.00", "true"],
        ["Pos", "pos"],
        ["Very  Good", "very good"],
        ["e\u0301", "é"],
    ]
    assert alike_labels(["a", "b", "1", "2", "1.5"]) == []
    assert like_none(["None", "null", "N/A", "\\N", "no", "0"]) == ["N/A", "None", "\\N", "null"]
