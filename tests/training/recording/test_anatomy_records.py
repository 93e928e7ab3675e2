"""Anatomies that a training records: of which steps, what they leave as it was, and through kills and extensions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from training.test_dissection import subject_of
from training.test_sharded import train_sharded
from training.tiny import in_processes, make_inputs, outcome, run_train, train_in_child, train_in_children

from pipeline.telemetry.anatomy import read_anatomy, record_of, recorded_steps
from pipeline.training.anatomies import subject_of_training
from pipeline.training.dissection import dissect
from pipeline.training.due import Due
from pipeline.training.recording import anatomy_records


def records(folder: Path) -> dict[int, str]:
    return {step: record_of(folder, step).read_text() for step in recorded_steps(folder)}


def test_they_are_due_by_the_number_of_the_step_alone() -> None:
    due = [step for step in range(2001) if Due.anatomy(None, step)]  # type: ignore[arg-type]
    assert due == [0, 10, 100, 1000]


def test_a_training_is_the_same_with_them_and_without(
    gpt2_inputs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GPT-2 has dropout: a number that is drawn for an anatomy would show in the weights."""
    run_train(gpt2_inputs, tmp_path / "with")
    assert [*records(tmp_path / "with/output")] == [0, 10, 12]
    assert records(tmp_path / "with/work") == records(tmp_path / "with/output")
    first, last = (read_anatomy(tmp_path / "with/output", step) for step in (0, 12))
    assert first.loss.by_hand == pytest.approx(first.loss.guess, abs=0.1), "before anything is learned"
    assert first.update.updates[0].state == {}
    assert (first.update.rate_of_step, last.update.rate_of_step, last.update.is_last_rate) == (2, 12, True)
    monkeypatch.setattr(anatomy_records, "MOST_RECORDED", 100)
    run_train(gpt2_inputs, tmp_path / "without")
    assert records(tmp_path / "without/output") == {}
    outcomes = [outcome(tmp_path / name, "output") for name in ("with", "without")]
    assert all(one.pop("anatomies") is not None for one in outcomes)
    assert outcomes[0] == outcomes[1]


def test_what_is_recorded_is_what_the_checkpoint_gives(gpt2_inputs: dict[str, Path], tmp_path: Path) -> None:
    changes: dict[str, Any] = {"save_steps": 10, "optim": "sgd", "max_grad_norm": 0.3}
    run_train(gpt2_inputs, tmp_path, **changes)
    settings = {"max_steps": 12, "warmup_steps": 2, "learning_rate": 0.01}
    found = dissect(subject_of(gpt2_inputs, tmp_path, 10, **changes, **settings))
    assert found == read_anatomy(tmp_path / "output", 10)


@pytest.mark.slow
def test_a_killed_training_has_those_of_a_whole_one(gpt2_inputs: dict[str, Path], tmp_path: Path) -> None:
    assert train_in_child(gpt2_inputs, tmp_path / "whole") == 0
    # After step 10, whose anatomy is there, and before its checkpoint.
    killed = tmp_path / "killed"
    assert train_in_child(gpt2_inputs, killed, ("forward", 22, "SIGKILL")) == -9
    assert [*records(killed / "work")] == [0, 10]
    for name in ("step-00000009.json", "step-00000010.json", "step-00000012.json"):
        (killed / "work/anatomy" / name).write_text("of steps that are lost")
    assert train_in_child(gpt2_inputs, killed) == 0
    assert records(killed / "output1") == records(tmp_path / "whole/output0")
    assert outcome(killed, "output1") == outcome(tmp_path / "whole", "output0")


def test_one_that_fails_is_told_and_ends_nothing(
    gpt2_inputs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []

    def fail(state: Any, artifact: Path) -> Any:
        state.progress.say = told.append
        subject = subject_of_training(state, artifact)
        next(subject.model.parameters()).data.fill_(float("nan"))
        return subject

    monkeypatch.setattr(anatomy_records, "subject_of_training", fail)
    run_train(gpt2_inputs, tmp_path)
    assert records(tmp_path / "output") == {}
    assert [line for line in told if "anatomy" in line] == [
        f"warning: step {step} has no anatomy: the loss of the batch or its gradient is not finite"
        for step in (0, 10, 12)
    ]


@pytest.mark.slow
def test_two_processes_record_them_once_and_sharded_ones_none(tmp_path: Path) -> None:
    inputs = make_inputs(tmp_path / "inputs")
    short = {"max_steps": 3, "save_steps": 3}
    assert train_in_children(inputs, tmp_path / "two", 2, **short) == [0, 0]
    assert [*records(tmp_path / "two/output0")] == [0, 3]
    assert in_processes(2, train_sharded, inputs, tmp_path / "sharded", "output", False, short) == [0, 0]
    assert records(tmp_path / "sharded/work") == {}
