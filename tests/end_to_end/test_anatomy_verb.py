"""`descent anatomy` on a finished run, on one that was stopped, and where there is nothing to take apart."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from end_to_end.test_finetune import OVERRIDES
from harness import Project, tells
from modeling.checkpoints import make_pretrained

from pipeline.verbs.training_of_run import TrainingOfRun


def checkpoints(project: Project) -> Path:
    return project.workspace / "checkpoints" / project.artifact("train").name


def test_of_a_finished_run_the_recorded_step_nearest_the_middle_by_default(finished: Project) -> None:
    """It records before the first step and after 10 and 24, and keeps the checkpoints of 20 and 24."""
    before = finished.digests()
    found = finished.descent("anatomy", "tiny.yaml")
    assert found.code == 0, found.err
    lines = found.out.splitlines()
    assert lines[0].startswith("tiny, after 10 steps: a batch of 64 targets")
    assert lines[-2].startswith("steps        0, 10, 20 and 24: --step N takes one; without --step")
    assert lines[-1].split()[:2] == ["page", "workspace/runs/tiny/anatomy-10.html"]
    page = (finished.workspace / "runs/tiny/anatomy-10.html").read_text()
    assert "after 10 steps of training" in page
    assert "Steps kept of this run: 0, 10, 20 and 24;" in page
    assert "layers.1.self_attn" in page
    assert finished.digests() == before
    assert finished.descent("verify", "tiny.yaml").code == 0


def test_without_its_checkpoints_a_run_has_the_weights_of_its_model(finished: Project) -> None:
    shutil.rmtree(finished.workspace / "checkpoints")
    for path in finished.artifact("train").glob("anatomy/*"):
        path.unlink()
    found = finished.descent("anatomy", "tiny.yaml", "--html", "other.html")
    assert found.code == 0, found.err
    assert "update       none: the optimizer's state at this step is not kept" in found.out
    assert "Not shown: the optimizer" in (finished.folder / "other.html").read_text()


def test_what_is_not_there_is_told_in_a_line(finished: Project) -> None:
    found = finished.descent("anatomy", "tiny.yaml", "--step", "7")
    assert found.code == 66
    assert tells(found.err, "--step 7", "run tiny", "20", "and 24")
    assert tells(
        finished.descent("anatomy", "tiny.yaml", "run.name=other").err, "no run other", "descent run tiny.yaml"
    )
    step = max(checkpoints(finished).glob("step-*"))
    (step / "model.safetensors").write_bytes(b"")
    for path in checkpoints(finished).glob("anatomy/*"):
        path.unlink()
    for path in finished.artifact("train").glob("anatomy/*"):
        path.unlink()
    found = finished.descent("anatomy", "tiny.yaml", "--step", "24")
    assert found.code != 0
    assert tells(
        found.err.splitlines()[-1], "step-00000024", "model.safetensors does not match", "take another step", "20"
    )


def test_a_stopped_training_has_its_checkpoints(finished: Project) -> None:
    """As it is after a signal: run.json names the training, and there is no artifact of it."""
    work = checkpoints(finished)
    shutil.rmtree(finished.artifact("train"))
    state = finished.state()
    stages = {name: entry for name, entry in state["stages"].items() if name not in ("train", "evaluate", "report")}
    finished.write_state(outcome="interrupted", training=work.name, stages=stages)
    found = finished.descent("anatomy", "tiny.yaml", "--step", "20")
    assert found.code == 0, found.err
    assert found.out.startswith("tiny, after 20 steps")
    assert "adamw_torch_fused" in found.out


def test_the_telling_step_is_the_recorded_one_nearest_the_middle(tmp_path: Path) -> None:
    def chosen(recorded: list[int], checkpoints: list[int]) -> int:
        training = TrainingOfRun("tiny", tmp_path, tmp_path, {}, {})
        # What is computed once: here it is given.
        training.__dict__.update(records=dict.fromkeys(recorded, tmp_path), checkpoints=dict.fromkeys(checkpoints))
        return training.telling_step

    assert chosen([0, 10, 100, 300], [200, 300]) == 100
    assert chosen([0, 10, 100, 1000, 1100], []) == 100, "100 and 1000 are as far from 550: the earlier one"
    assert chosen([0, 10, 100, 1000, 1600], []) == 1000
    assert chosen([0, 5], [5]) == 0
    assert chosen([], [100, 200, 400]) == 200
    assert chosen([], [7]) == 7


@pytest.mark.slow
def test_an_adapter_is_taken_apart_on_its_base(finished: Project, tmp_path: Path) -> None:
    """The base comes from the model stage, as in training."""
    make_pretrained(finished.folder / "base")
    adapter = (*OVERRIDES, "model.adapter={type: lora, r: 2}", "train.max_steps=4", "model.architecture=null")
    adapter += ("model.config={}", "tokenizer={type: pretrained, pretrained: base}")
    assert set(finished.run(*adapter).values()) <= {"built", "reused"}
    found = finished.descent("anatomy", "tiny.yaml", "--step", "4")
    assert found.code == 0, found.err
    assert "lora_B" in (finished.workspace / "runs/tiny/anatomy-4.html").read_text()
