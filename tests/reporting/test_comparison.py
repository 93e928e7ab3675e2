"""Two runs side by side, on a finished tiny run and one of another learning rate and augmentation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from harness import Project

from pipeline.artifacts import Workspace
from pipeline.errors import ConfigError, MissingInputError
from pipeline.reporting import comparison
from pipeline.reporting.comparison import compare_runs, format_comparison


@pytest.fixture(scope="module")
def two_runs(finished_once: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = finished_once.copy(tmp_path_factory.mktemp("two") / "copy")
    done = project.descent("run", "tiny.yaml", "run.name=other", "train.learning_rate=0.001", "train.max_steps=12")
    assert done.code == 0, done.err
    return project


@pytest.fixture
def workspace(two_runs: Project) -> Workspace:
    return Workspace(two_runs.workspace)


def row(text: str, name: str) -> list[str]:
    return next(line for line in text.splitlines() if line.startswith(f"  {name} ")).removeprefix(f"  {name}").split()


def test_what_differs_and_what_came_out(workspace: Workspace) -> None:
    found = compare_runs(workspace, ("tiny", "other"))
    assert found["differences"] == ["train.learning_rate 0.005 -> 0.001", "train.max_steps 24 -> 12"]
    assert found["same_test_documents"]
    assert [point["step"] for point in found["validation"]] == [12, 24]
    assert found["validation"][1]["values"][1] is None
    figures = {figure["name"]: figure["values"] for figure in found["evaluation"] + found["training"]}
    assert figures["steps"] == [24, 12]
    assert figures["bits_per_byte"][0] < figures["bits_per_byte"][1]
    text = format_comparison(found)
    assert row(text, "steps") == ["24", "12", "-50.0%"]
    assert row(text, "step 24")[1] == "-"
    assert row(text, "documents")[2:] == []
    assert "warning" not in text


def test_runs_of_other_held_out_documents_are_told_apart(workspace: Workspace) -> None:
    found = compare_runs(workspace, ("tiny", "other"))
    assert "other documents or labels are held out" in format_comparison({**found, "same_test_documents": False})
    assert format_comparison({**found, "differences": []}).startswith("no setting, seed or source differs\n")


def test_many_validations_are_thinned_to_the_first_and_last(workspace: Workspace) -> None:
    found = compare_runs(workspace, ("tiny", "other"))
    points = [{"step": step, "values": [1.0, 2.0]} for step in range(1, 101)]
    text = format_comparison({**found, "validation": points})
    assert text.count("  step ") == comparison.MAX_VALIDATIONS
    assert row(text, "step 1") == row(text, "step 100") == ["1.000", "2.000", "+100.0%"]


def test_what_cannot_be_compared_is_named(workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"holds no run gone; it has other, tiny"):
        compare_runs(workspace, ("tiny", "gone"))
    with pytest.raises(MissingInputError, match="holds no run a; it has none"):
        compare_runs(Workspace(tmp_path), ("a", "b"))
    with pytest.raises(ConfigError, match="tiny is the configuration's own run"):
        compare_runs(workspace, ("tiny", "tiny"))


def test_a_run_without_an_evaluation_is_not_compared(two_runs: Project, workspace: Workspace) -> None:
    assert two_runs.descent("run", "tiny.yaml", "run.name=half", "--until", "pack").code == 0
    with pytest.raises(MissingInputError, match="run half has no artifact of train to compare"):
        compare_runs(workspace, ("tiny", "half"))


def test_the_verb_prints_a_table_or_json(two_runs: Project) -> None:
    done = two_runs.descent("diff", "tiny.yaml", "other")
    assert done.code == 0, done.err
    assert "train.learning_rate 0.005 -> 0.001" in done.out
    assert row(done.out, "training") == ["tiny", "other", "change"]
    assert json.loads(two_runs.descent("diff", "tiny.yaml", "other", "--json").out)["runs"] == ["tiny", "other"]
