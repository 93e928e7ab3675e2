"""A training that stops early says so wherever people look, and goes on where it is given more patience."""

from __future__ import annotations

import json

from harness import Project

# No validation is lower by so much than the first: of 24 steps it takes 8.
EARLY = ("train.eval_steps=4", "train.early_stopping_patience=1", "train.early_stopping_threshold=9",
         "train.lr_scheduler_type=constant")  # fmt: skip
WHY = (
    "stopped early after step 8 of 24: in 1 validation the loss did not fall by more than 9; the lowest is {:.4g}, of "
    "step {}"
)


def test_a_run_that_stops_early_says_so_and_goes_on_with_more_patience(finished: Project) -> None:
    before = finished.artifact("train").name
    result = finished.descent("run", "tiny.yaml", *EARLY, "run.name=early", "train.export=last")
    assert result.code == 0, result.err
    view = finished.workspace / "runs/early"
    state = json.loads((view / "run.json").read_text())["stages"]["train"]
    ended = state["stopped_early"]
    assert ended["why"] == WHY.format(ended["lowest_loss"], ended["lowest_loss_step"])
    assert f"train: {ended['why']}\n" in result.err
    assert "train: the weights of step 8 become the artifact, as train.export: last says" in result.err
    told = f"{ended['why']}; the exported weights are those of step 8"
    assert f"| end | {told} |\n" in (view / "model/README.md").read_text()
    assert f"The training {told}.</p>" in (view / "report.html").read_text()
    assert "stopped_early" not in finished.state()["stages"]["train"]

    # What chooses the end is no runtime setting of a run that may end so.
    compared = finished.told("diff", "tiny", "early")
    runtime = {row["key"]: row["runtime"] for row in compared["configuration"]}
    assert runtime == dict.fromkeys(
        ("train.eval_steps", "train.early_stopping_patience", "train.early_stopping_threshold",
         "train.lr_scheduler_type"), False,
    )  # fmt: skip

    patient = finished.plan(*EARLY, "train.export=last", "train.early_stopping_patience=3")["train"]
    assert patient["action"] == "resume (step 8)"
    assert patient["reasons"] == [f"continues training {state['key']}: train.early_stopping_patience 1 -> 3"]
    longer = finished.plan(*EARLY, "train.export=last", "train.max_steps=48")["train"]
    assert longer["reasons"] == [f"continues training {state['key']}: train.max_steps 24 -> 48"]
    swept = finished.descent("gc", "tiny.yaml").out
    assert f"{state['key']}  (its training is complete: only a longer one could go on from it)" in swept
    # Off, nothing is redone; the defaults of what came later are in no key.
    assert {name: finished.plan()["train"][name] for name in ("key", "action")} == {"key": before, "action": "reuse"}
    assert finished.plan("train.early_stopping_threshold=0")["train"]["action"] == "reuse"
