"""A configuration without the sections of later stages: data alone is prepared, looked at and cared for."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from harness import STAGES, TINY, Project, Result, write_sources
from typer.testing import CliRunner

from pipeline.cli import app

DATA = STAGES[: STAGES.index("model")]
WITHOUT_MODEL = TINY[: TINY.index("model:")]
NEEDS_NONE = " (data alone needs none: `--until pack`)"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Data prepared by a configuration that ends with `pack:`."""
    project = Project(tmp_path_factory.mktemp("parts"))
    write_sources(project.folder)
    (project.folder / "tiny.yaml").write_text(WITHOUT_MODEL)
    (project.folder / "whole.yaml").write_text(TINY)
    (project.folder / "name.yaml").write_text("run: {name: tiny}\n")
    assert set(project.run("--until", "pack").values()) == {"built"}
    return project


@pytest.fixture
def descent(project: Project, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Carries out a verb in the project's folder."""
    monkeypatch.chdir(project.folder)

    def descent(*arguments: str) -> Result:
        done = CliRunner().invoke(app, arguments)
        return Result(done.exit_code, done.stdout, done.stderr)

    return descent


def test_data_is_prepared_as_with_a_model(project: Project, descent) -> None:
    assert project.state()["outcome"] == "done"
    steps = {step["stage"]: step for step in json.loads(descent("plan", "whole.yaml", "--json").out)}
    assert {steps[stage]["action"] for stage in DATA} == {"reuse"}
    assert steps["model"]["action"] == "run"
    again = descent("run", "workspace/runs/tiny/config.yaml", "--until", "pack")
    assert again.code == 0, again.err
    assert again.out.count(" reuse ") == len(DATA)
    assert again.out.endswith(f"\npack         {project.artifact('pack').relative_to(project.folder)}\n")


@pytest.mark.parametrize("arguments", [["run"], ["plan"], ["plan", "--until", "train"], ["run", "--only", "evaluate"]])
def test_a_stage_that_needs_a_section_asks_for_it(descent, arguments: list[str]) -> None:
    result = descent(arguments[0], "tiny.yaml", *arguments[1:])
    lines = [f"descent: tiny.yaml: {section}: required, but not given{NEEDS_NONE}" for section in ("model", "train")]
    assert (result.code, result.err.splitlines()) == (78, lines)


def test_a_model_alone_needs_no_training(descent) -> None:
    settings = ["model.config={hidden_size: 32, num_hidden_layers: 1}", "--until", "model"]
    plan = descent("plan", "tiny.yaml", *settings)
    assert "\nmodel      run " in plan.out
    result = descent("explain", "tiny.yaml", "model", settings[0])
    assert (result.code, result.out.split()[:2]) == (0, ["model", "run"]), result.err
    told = descent("explain", "tiny.yaml", "model").err
    assert told == f"descent: tiny.yaml: model: required, but not given{NEEDS_NONE}\n"
    assert descent("explain", "tiny.yaml", "pack").code == 0


@pytest.mark.parametrize("config", ["tiny.yaml", "name.yaml"])
@pytest.mark.parametrize("verb", ["status", "verify", "gc", "diff"])
def test_a_workspace_is_looked_at_without_sections_that_do_not_matter(descent, verb: str, config: str) -> None:
    result = descent(verb, config, *(["tiny", "tiny"] if verb == "diff" else []))
    assert result.code == 0, result.err
    told = {"status": "tiny", "verify": "every file is as", "gc": "nothing is unused", "diff": "neither run has one"}
    assert told[verb] in result.out


def test_a_cost_is_estimated_without_data(project: Project, descent) -> None:
    path = project.folder / "model.yaml"
    path.write_text("run: {name: x}\n" + TINY[TINY.index("model:") : TINY.index("evaluate:")])
    result = descent("estimate", path.name)
    assert result.code == 0, result.err
    assert "parameters" in result.out


def test_what_is_given_is_checked_all_the_same(descent) -> None:
    result = descent("status", "tiny.yaml", "train.learning_rat=1")
    assert result.code == 78
    assert "train.learning_rat: unknown key; did you mean learning_rate?" in result.err
