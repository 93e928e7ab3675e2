"""A changed length alone: training goes on where that gives what a whole one would, else a command says why not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from harness import Project

from pipeline import runner
from pipeline.artifacts import Workspace
from pipeline.config.loading import load_config
from pipeline.extending import take_over
from pipeline.runner import Selection

# As other tests in this process: Accelerate takes one precision a process.
CONSTANT = ("train.lr_scheduler_type=constant", "train.mixed_precision=no")


def train(*settings: str, **selection: Any) -> str:
    """Run up to training in this process; returns its key."""
    view = runner.run(load_config(Path("tiny.yaml"), settings), Selection(last="train", **selection))
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
    workspace, config = Workspace(Path("workspace")), load_config(Path("tiny.yaml"), CONSTANT)
    steps = {step.stage.name: step for step in runner.plan(config, workspace, Selection(last="train"))}
    identity, pack = steps["train"].identity, steps["pack"].manifest
    assert identity is not None
    assert pack is not None
    said: list[str] = []
    with workspace.lock("train", short, said.append):
        take_over(config.train, identity, workspace, pack, said.append)
    assert said == [f"training {short}, which this one could go on from, is under way elsewhere: not waiting for it"]
    assert not workspace.checkpoints(identity.key).exists()
    shutil.move(finished.folder / "artifact", finished.workspace / "artifacts/train" / short)

    capsys.readouterr()
    long = train(*CONSTANT)
    told = capsys.readouterr().err
    assert f"train: {reason}\n" in told
    assert "train: resuming at step 10\n" in told
    records = (finished.workspace / "artifacts/train" / long / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in records] == [4, 8, 12, 12, 16, 20, 24, 24]
    assert finished.plan(*CONSTANT)["train"]["action"] == "reuse"
    train(*CONSTANT, force=("train",))
    assert "train: the digests agree" in capsys.readouterr().err

    # A longer one goes on from the newest, and says so; checkpoints of complete trainings are all the same for gc.
    planned_longer = finished.plan(*CONSTANT, "train.max_steps=48")["train"]
    assert planned_longer["reasons"] == [f"continues training {long}: train.max_steps 24 -> 48"]
    swept = finished.descent("gc", "tiny.yaml", "--delete").out
    assert f"{short}  (its training is complete: only a longer one could go on from it)" in swept
    reasons = finished.plan(*CONSTANT, "train.max_steps=48")["train"]["reasons"]
    assert reasons == [
        "train.max_steps 24 -> 48",
        f"cannot go on from training {long}: it left no checkpoint from before step 48",
    ]


def test_a_schedule_that_depends_on_the_length_begins_anew_and_says_so(finished: Project) -> None:
    key = finished.artifact("train").name
    step = finished.plan("train.max_steps=48")["train"]
    assert step["action"] == "run"
    assert step["reasons"] == [
        "train.max_steps 24 -> 48",
        f"cannot go on from training {key}: with train.lr_scheduler_type cosine the learning rate after step 4 depends "
        "on the length, and no earlier checkpoint is left",
    ]
    assert finished.plan("train.max_steps=48", "train.learning_rate=0.1")["train"]["reasons"] == [
        "train.learning_rate 0.005 -> 0.1",
        "train.max_steps 24 -> 48",
    ]
