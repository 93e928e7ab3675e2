"""`descent ablate` on real runs."""

from __future__ import annotations

import json

import pytest
from harness import Project, tells


@pytest.fixture
def project(finished: Project) -> Project:
    path = finished.folder / "tiny.yaml"
    path.write_text(
        path.read_text().replace("max_steps: 24", "max_steps: 4").replace("test_fraction: 0.1", "test_fraction: 0.4")
    )
    return finished


@pytest.mark.slow
def test_pairs_of_runs_are_compared_and_reused(project: Project) -> None:
    found = project.told("ablate", "train.learning_rate=0.2", "--seeds", "2")
    runs = found["runs"]
    assert isinstance(runs, list)
    assert [run["seed"] for run in runs] == [7, 8]
    for run in runs:
        for one in (run["base"], run["changed"]):
            folder = project.workspace / "runs" / one["run"]
            test = json.loads((folder / "run.json").read_text())["stages"]["evaluate"]["key"]
            summary = json.loads((project.workspace / "artifacts/evaluate" / test / "manifest.json").read_text())[
                "summary"
            ]
            assert one["bits_per_byte"] == pytest.approx(summary["test"]["bits_per_byte"], abs=1e-9)
    changes = [run["changed"]["bits_per_byte"] - run["base"]["bits_per_byte"] for run in runs]
    assert found["change"] == pytest.approx(sum(changes) / 2)
    again = project.descent("ablate", "tiny.yaml", "train.learning_rate=0.2", "--seeds", "2")
    assert "started" not in again.err, "all is there already"
    assert "train.learning_rate=0.2: " in again.out

    nothing = project.told("ablate", "train.learning_rate=0.005", "--seeds", "2")
    assert (nothing["change"], nothing["interval"]) == (0.0, [0.0, 0.0])
    assert str(nothing["verdict"]).startswith("no measurable benefit")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["run.seed=3"], ("run.seed=3",)),
        (["augment"], ("augment is no setting",)),
        (["train.learning_rat=1"], ("train.learning_rat", "learning_rate")),
        (["model.task=classification", "ingest.sources.1.label_field=body"], ("bits per byte", "classification")),
        (["curate.test_fraction=0.01"], ("test documents", "at least 100")),
    ],
)
def test_what_cannot_be_compared_is_told_before_any_training(
    finished: Project, words: list[str], told: tuple[str, ...]
) -> None:
    result = finished.descent("ablate", "tiny.yaml", *words, "--seeds", "1")
    assert result.code == 78, result.err
    assert tells(result.err.splitlines()[-1], *told), result.err
    assert "train: started" not in result.err
