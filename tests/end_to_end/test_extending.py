"""A changed length alone: training goes on where that gives what a whole one would, else a command says why not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from harness import Project, select, tells, workspace_in

from pipeline.config.loading import load_config
from pipeline.engine import runner
from pipeline.engine.plan import plan
from pipeline.engine.work_folders import stage_start, take_over

# As other tests in this process: Accelerate takes one precision a process.
CONSTANT = ("train.lr_scheduler_type=constant", "train.mixed_precision=no")


def train(*settings: str, **options: Any) -> str:
    """Run up to training in this process; returns its key."""
    view = runner.run(load_config(Path("tiny.yaml"), settings), select(last="train", **options))
    assert view is not None
    return str(json.loads((view.folder / "run.json").read_text())["stages"]["train"]["key"])


def test_a_longer_training_goes_on_and_repeats_to_the_bit(
    finished: Project, without_torch, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(finished.folder)
    short = train(*CONSTANT, "train.max_steps=10")
    reason = f"continues training {short}: train.max_steps 10 -> 24"
    planned = without_torch(finished, ["plan", "tiny.yaml", *CONSTANT])
    assert planned.code == 0, planned.err
    assert [line.split(maxsplit=4) for line in planned.out.splitlines() if line.startswith("train ")] == [
        ["train", "resume", "(step", "10)", f"{finished.plan(*CONSTANT)['train']['key']} {reason}"]
    ]
    assert reason in finished.descent("explain", "tiny.yaml", "train", *CONSTANT).out

    # Of a killed training there is no manifest; and while somebody is at it, nobody waits.
    shutil.move(finished.workspace / "artifacts/train" / short, finished.folder / "artifact")
    assert finished.plan(*CONSTANT)["train"]["action"] == "resume (step 10)"
    workspace, config = workspace_in(Path("workspace")), load_config(Path("tiny.yaml"), CONSTANT)
    steps = {step.stage.name: step for step in plan(config, select(last="train"))}
    identity = steps["train"].identity
    assert identity is not None
    stage, manifests = steps["train"].stage, {name: step.manifest for name, step in steps.items() if step.manifest}
    start = stage_start(stage, config.train, identity, workspace, manifests)
    said: list[str] = []
    with workspace.lock("train", short, said.append):
        take_over(stage, start, workspace, said.append)
    (line,) = said
    assert tells(line, f"training {short}", "under way elsewhere", "not waiting")
    assert not workspace.checkpoints(identity.key).exists()
    shutil.move(finished.folder / "artifact", finished.workspace / "artifacts/train" / short)

    capsys.readouterr()
    long = train(*CONSTANT)
    told = capsys.readouterr().err
    assert f"train: {reason}\n" in told
    assert "train: resuming at step 10\n" in told
    records = (finished.workspace / "artifacts/train" / long / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in records] == [0, 4, 8, 12, 12, 16, 20, 24, 24]
    assert finished.plan(*CONSTANT)["train"]["action"] == "reuse"
    train(*CONSTANT, force=("train",))
    assert "train: the digests agree" in capsys.readouterr().err

    # A longer one goes on from the newest, and says so; checkpoints of complete trainings are all the same for gc.
    planned_longer = finished.plan(*CONSTANT, "train.max_steps=48")["train"]
    assert planned_longer["reasons"] == [f"continues training {long}: train.max_steps 24 -> 48"]
    swept = finished.descent("gc", "tiny.yaml", "--delete").out
    assert f"{short}  (its training is complete: only a longer one could go on from it)" in swept
    changed, why = finished.plan(*CONSTANT, "train.max_steps=48")["train"]["reasons"]
    assert changed == "train.max_steps 24 -> 48"
    assert tells(why, f"cannot go on from training {long}", "no checkpoint", "before step 48")


def test_a_schedule_that_depends_on_the_length_begins_anew_and_says_so(finished: Project) -> None:
    key = finished.artifact("train").name
    assert finished.descent("run", "tiny.yaml", "train.max_steps=9", "run.name=shorter", "--until", "train").code == 0
    step = finished.plan("train.max_steps=48")["train"]
    assert step["action"] == "run"
    changed, why = step["reasons"]
    assert changed == "train.max_steps 24 -> 48"
    assert tells(why, f"cannot go on from training {key}", "cosine", "after step 4", "train.rewarm_steps=2", "24 steps")
    assert finished.plan("train.max_steps=48", "train.learning_rate=0.1")["train"]["reasons"] == [
        "train.learning_rate 0.005 -> 0.1",
        "train.max_steps 24 -> 48",
    ]


def told_of(output: str, stage: str = "train") -> str:
    """The line of a plan's table for a stage, with single spaces."""
    [line] = [line for line in output.splitlines() if line.startswith(f"{stage} ")]
    return " ".join(line.split())


def test_a_finished_training_is_rewarmed_and_repeats_to_the_bit(
    finished: Project, without_torch, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(finished.folder)
    settings = ("train.max_steps=40", "train.rewarm_steps=3")
    short = finished.artifact("train").name
    planned = without_torch(finished, ["plan", "tiny.yaml", *settings])
    key = finished.plan(*settings)["train"]["key"]
    reason = f"re-warmed over 3 steps: continues training {short}: train.max_steps 24 -> 40"
    assert told_of(planned.out) == f"train resume (step 24) {key} {reason}"
    long = train(*settings)
    assert long == key
    told = capsys.readouterr().err
    assert f"train: {reason}\n" in told
    assert "train: resuming at step 24\n" in told
    records = (finished.workspace / "artifacts/train" / long / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in records] == [0, 4, 8, 12, 12, 16, 20, 24, 24, 28, 32, 36, 36, 40, 40]
    view = finished.workspace / "runs/tiny"
    assert (view / "report.html").exists(), "the earlier result stays in view"

    # Its configuration says from where, so that it is the same anywhere; of another length in between it is none.
    origin = load_config(view / "config.yaml").train.rewarm_from
    assert [one.model_dump() for one in origin] == [{"steps": 24, "schedule_steps": 24, "rewarm_steps": None}]
    train("train.max_steps=30")
    assert finished.plan(*settings)["train"]["action"] == "reuse"
    train(*settings, force=("train",))
    assert "train: the digests agree" in capsys.readouterr().err, "of one that never ended"

    # A third goes on from it, and it is found without the first, of which the sweep leaves nothing.
    again = finished.plan("train.max_steps=60", "train.rewarm_steps=2")["train"]
    assert (again["action"], again["reasons"]) == (
        "resume (step 40)",
        [f"re-warmed over 2 steps: continues training {long}: train.max_steps 40 -> 60"],
    )
    shutil.rmtree(finished.workspace / "artifacts/train" / short)
    shutil.rmtree(finished.workspace / "checkpoints")
    assert finished.plan(*settings)["train"]["action"] == "reuse"
    step = finished.plan("train.max_steps=60", "train.rewarm_steps=2")["train"]
    assert step["action"] == "run"
    assert step["reasons"][-1].startswith(f"cannot go on from training {long}: its checkpoint of step 40 is not there")


def test_there_must_be_a_shorter_training_to_rewarm_and_steps_for_it(finished: Project) -> None:
    def fails(code: int, *settings: str) -> str:
        for verb in ("plan", "run"):
            result = finished.descent(verb, "tiny.yaml", *settings)
            assert (result.code, len(result.err.splitlines())) == (code, 1), result.err
        return result.err

    missing = "train.rewarm_steps: the workspace has no finished training of fewer than 24 steps that differs in its"
    assert missing in fails(66, "train.rewarm_steps=3")
    assert "fewer than 48 steps" in fails(66, "train.rewarm_steps=3", "train.max_steps=48", "train.learning_rate=0.1")
    assert "are more than the 26 steps of the run" in fails(78, "train.rewarm_steps=3", "train.max_steps=26")
    assert "has no finished training yet" in fails(66, "train.rewarm_steps=3", "run.workspace=fresh")
    assert not (finished.folder / "fresh/artifacts").exists(), "said before any work"
    assert "goes on by itself" in fails(78, "train.rewarm_steps=3", "train.lr_scheduler_type=constant")


def test_the_end_of_a_run_says_how_to_train_longer(finished: Project) -> None:
    said = finished.descent("run", "tiny.yaml", "train.max_steps=26")
    line = "longer       train.max_steps=52 train.rewarm_steps=2 goes on from these 26 steps"
    assert line in said.out.splitlines()
    assert "longer" not in finished.descent("run", "tiny.yaml", "train.max_steps=26").out, "once"
    result = finished.descent("plan", "tiny.yaml", *line.split()[1:3])
    assert told_of(result.out).startswith("train resume (step 26) "), result.err
