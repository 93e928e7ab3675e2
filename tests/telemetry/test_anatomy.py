from __future__ import annotations

import json
from pathlib import Path

import pytest
from reporting.fake_run import fake_anatomy

from pipeline.reporting.anatomy_page import render_anatomy
from pipeline.telemetry.anatomy import read_anatomy, record_of, recorded_steps, write_anatomy


def test_a_record_comes_back_as_it_was(tmp_path: Path) -> None:
    assert recorded_steps(tmp_path) == []
    for step in (100, 0, 12345):
        write_anatomy(tmp_path, fake_anatomy(step))
    assert recorded_steps(tmp_path) == [0, 100, 12345]
    assert read_anatomy(tmp_path, 100) == fake_anatomy(100)
    assert read_anatomy(tmp_path, 7) is None


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[:-20],
        lambda text: text.replace('"step": 10', '"step": 11'),
        lambda text: text.replace('"format": 1', '"format": 0'),
        lambda text: text.replace('"by_torch": ', '"by_torch": "a word", "x": '),
        lambda text: text.replace('"after": ', '"after": NaN, "x": '),
        lambda text: json.dumps([text]),
    ],
)
def test_a_record_that_was_altered_is_none(tmp_path: Path, change) -> None:
    write_anatomy(tmp_path, fake_anatomy(10))
    path = record_of(tmp_path, 10)
    before = path.read_text()
    path.write_text(change(before))
    assert path.read_text() != before
    assert read_anatomy(tmp_path, 10) is None


def test_names_that_are_no_records_are_passed_over(tmp_path: Path) -> None:
    write_anatomy(tmp_path, fake_anatomy(10))
    for name in ("step-x.json", "step-7.json", "step-0000001²1.json", "other.json"):
        record_of(tmp_path, 10).with_name(name).write_text("{}")
    assert recorded_steps(tmp_path) == [10]


def test_a_record_from_before_losses_were_read_between_blocks_is_one(tmp_path: Path) -> None:
    write_anatomy(tmp_path, fake_anatomy(10))
    path = record_of(tmp_path, 10)
    values = json.loads(path.read_text())
    for station in values["stations"]:
        del station["loss_here"]
    del values["update"]["updates"][0]["method"]
    path.write_text(json.dumps(values))
    found = read_anatomy(tmp_path, 10)
    assert found is not None
    assert {one.loss_here for one in found.stations} == {None}
    page = render_anatomy(found, "demo")
    assert "read here" not in page
    assert "logit lens" not in page
