"""`descent diff` on real runs: whole ones, and one that failed in training."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from harness import STAGES, Project
from reporting.page_values import drawn_values
from reporting.test_html import Checker


@pytest.fixture(scope="module")
def compared(finished_once: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Beside the tiny run, a slower one and one that diverges."""
    project = finished_once.copy(tmp_path_factory.mktemp("diff") / "copy")
    slow = project.descent("run", "tiny.yaml", "run.name=slow", "train.learning_rate=0.001", "train.logging_steps=6")
    assert slow.code == 0, slow.err
    bad = project.descent("run", "tiny.yaml", "run.name=bad", "train.learning_rate=1e12", "train.logging_steps=1")
    assert bad.code == 70
    return project


def parsed(page: str) -> Checker:
    checker = Checker()
    checker.feed(page)
    checker.close()
    return checker


def records(project: Project, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (project.workspace / "runs" / name / "metrics.jsonl").read_text().splitlines()]


def test_two_runs_on_one_screen_without_torch(compared: Project, without_torch) -> None:
    result = without_torch(compared, ["diff", "tiny.yaml", "tiny", "slow"])
    assert result.code == 0, result.err
    text = result.out
    assert max(map(len, text.splitlines())) <= 80
    assert len(text.splitlines()) <= 60
    assert "configuration\n                       tiny   slow\n  train.learning_rate  0.005  0.001\n" in text
    assert "but for rounding\n                       tiny  slow\n  train.logging_steps  4     6\n" in text
    assert "  shared: ingest, normalize, curate, augment, tokenizer, encode, pack, model\n" in text
    assert "  train: train.learning_rate 0.005 -> 0.001\n" in text
    assert "  differ by their inputs alone: evaluate, report\n" in text
    assert "data: the same\n" in text
    assert "slow did not reach tiny's last validation loss" in text
    assert text.count("tiny is better") == 6, "five measures and the main one of a source"
    assert re.search(r"of \w+ .* no interval\n", text), "the other source has a few documents"
    assert re.search(r"health of the result +note +critical\n", text)
    words = " ".join(text.split())
    assert "the result of tiny: still learning; the result of slow: no better than baseline" in words


def test_its_figures_are_those_of_the_runs(compared: Project) -> None:
    found = compared.told("diff", "tiny", "slow")
    first, second = (
        {line["step"]: line["train/loss"] for line in records(compared, name) if "train/loss" in line}
        for name in ("tiny", "slow")
    )
    steps = found["training"]["steps"]
    assert [row["step"] for row in steps] == sorted(first.keys() | second.keys())
    shared = [row for row in steps if row["step"] in first.keys() & second.keys()]
    assert [row["step"] for row in shared] == [12, 24]
    for row in shared:
        assert row["train/loss"] == [first[row["step"]], second[row["step"]]]
        assert row["eval/loss"][0] < row["eval/loss"][1]
    evaluation = json.loads((compared.artifact("evaluate") / "evaluation.json").read_text())
    measures = found["evaluation"]["measures"]
    for key, value in evaluation["test"].items():
        assert key == "intervals" or measures[key]["values"][0] == value
    assert measures["bits_per_byte"]["best"] == measures["token_accuracy"]["best"] == 0
    assert found["evaluation"]["sources"].keys() == evaluation["sources"].keys()
    (_, tiny), (slow, _) = found["training"]["reached"]["eval/loss"]
    assert slow is None
    assert tiny in (12, 24)


def test_a_run_that_failed_shows_what_there_is(compared: Project) -> None:
    text = compared.descent("diff", "tiny.yaml", "tiny", "bad").out
    assert "bad: failed after model with exit code 70" in text
    assert "training diverged: loss is nan at step" in text
    assert "  train: train.learning_rate 0.005 -> 1000000000000.0\n" in text
    assert "  in tiny only: evaluate, report\n" in text
    assert "bits per byte" in text
    found = compared.told("diff", "tiny", "bad")
    kept = records(compared, "bad")
    assert found["training"]["figures"]["steps"][1] == kept[-1]["step"] < 24
    assert found["training"]["figures"]["train_loss"][1] == kept[-1]["train/loss"]
    assert found["evaluation"]["measures"]["loss"]["values"][1] is None
    assert "training_diverged" in {verdict["what"] for verdict in found["training"]["health"]["train"][1]}


def test_one_run_alone_is_compared_with_that_of_the_configuration(compared: Project) -> None:
    expected = compared.descent("diff", "tiny.yaml", "tiny", "slow").out
    assert compared.descent("diff", "tiny.yaml", "slow").out == expected
    assert compared.descent("diff", "tiny.yaml", "slow", "run.name=tiny").out == expected
    assert compared.descent("diff", "tiny.yaml", "tiny", "slow", "run.name=x").out == expected


def test_any_number_of_runs_each_in_a_column(compared: Project) -> None:
    result = compared.descent("diff", "tiny.yaml", "slow", "run.name=x", "bad", "tiny")
    assert result.code == 0, result.err
    text = result.out
    assert re.search(r"configuration\n +slow +bad +tiny\n  train.learning_rate +0.001 +1000000000000.0 +0.005\n", text)
    assert "  train of bad: train.learning_rate 0.001 -> 1000000000000.0\n" in text
    assert "  train of tiny: train.learning_rate 0.001 -> 0.005\n" in text
    assert "  in slow, tiny only: evaluate, report\n" in text
    assert re.search(r"bits per byte +\S+ +- +\S+  tiny is best\n", text)
    found = compared.told("diff", "slow", "bad", "tiny")
    assert [run["name"] for run in found["runs"]] == ["slow", "bad", "tiny"]
    pair = compared.told("diff", "slow", "tiny")
    for key, row in pair["evaluation"]["measures"].items():
        of_three = found["evaluation"]["measures"][key]
        assert of_three["values"] == [row["values"][0], None, row["values"][1]]
        assert of_three["differences"] == [None, None, row["differences"][1]]
        assert of_three["best"] == {0: 0, 1: 2, None: None}[row["best"]]
    last = found["training"]["steps"][-1]
    assert (last["step"], last["train/loss"][1]) == (24, None)
    assert [last["train/loss"][i] for i in (0, 2)] == pair["training"]["steps"][-1]["train/loss"]


def test_a_diff_without_a_run_asks_for_one(compared: Project) -> None:
    for arguments in ([], ["run.name=slow"]):
        result = compared.descent("diff", "tiny.yaml", *arguments)
        assert (result.code, len(result.err.splitlines())) == (2, 1)
        assert "RUN" in result.err
    own = compared.descent("diff", "tiny.yaml", "tiny")
    assert (own.code, own.err) == (
        78,
        "descent: diff: tiny is the configuration's own run; name another, or two\n",
    )


def test_a_run_with_itself(compared: Project) -> None:
    found = compared.told("diff", "slow", "slow")
    assert found["configuration"] == []
    assert {row["stage"]: row["relation"] for row in found["stages"]} == dict.fromkeys(STAGES, "shared")
    assert all(row["differences"] == [None, 0] for row in found["evaluation"]["measures"].values())
    text = compared.descent("diff", "tiny.yaml", "slow", "slow").out
    assert text.startswith("A = slow: done, ")
    assert "both runs have this training" in text


def test_an_unknown_run_exits_66_with_the_nearest_name(compared: Project, tmp_path: Path) -> None:
    result = compared.descent("diff", "tiny.yaml", "tiny", "slwo")
    assert (result.code, result.err) == (66, "descent: workspace: no run is called 'slwo'; did you mean slow?\n")
    outside = compared.descent("diff", "tiny.yaml", "../runs/tiny", "tiny")
    assert outside.code == 66
    assert "known: bad, slow, tiny" in outside.err
    empty = compared.descent("diff", "tiny.yaml", "tiny", "slow", f"run.workspace={tmp_path}")
    assert (empty.code, empty.err) == (
        66,
        f"descent: {tmp_path}: no run is called 'tiny'; descent status lists the runs\n",
    )


def test_pages_draw_what_real_trainings_recorded(compared: Project, without_torch, tmp_path: Path) -> None:
    """The report of a run, and the page of two of which one failed, without torch."""
    result = without_torch(compared, ["diff", "tiny.yaml", "tiny", "bad", "--html", str(tmp_path / "page.html")])
    assert (result.code, result.err) == (0, "")
    runs = [records(compared, name) for name in ("tiny", "bad")]
    report = (compared.workspace / "runs/tiny/report.html").read_text()
    pair = (tmp_path / "page.html").read_text()
    for page, of in ((report, runs[:1]), (pair, runs)):
        assert (checked := parsed(page)).wrong == checked.open == []
        for tag in ("train/loss", "train/learning_rate", "throughput/tokens_per_second"):
            drawn = [points for name, points in drawn_values(page) if name == tag]
            if tag == "train/learning_rate" and page is pair:
                assert drawn == [], "rates this far apart are drawn as parts of their peaks"
                continue
            assert len(drawn) == len(of)
            for points, run in zip(drawn, of, strict=True):
                known = {line["step"]: line[tag] for line in run if tag in line}
                assert [step for step, _, _ in points] == list(known)
                assert all(value == pytest.approx(known[step], abs=error) for step, value, error in points)
    assert "not finished training diverged: " in parsed(pair).text
    assert "train.learning_rate 0.005 1000000000000.0" in parsed(pair).text
