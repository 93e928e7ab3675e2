"""Steps that are not finite never reach the weights, and losses that stand out are noticed."""

from __future__ import annotations

import json
import math
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from training.tiny import PLANTED, make_inputs, metrics, run_train, train_in_children
from typer.testing import CliRunner

from pipeline.atomic import digest_file
from pipeline.cli import app
from pipeline.errors import DivergedError, InterruptedRun
from pipeline.evaluation.losses import LossSums
from pipeline.progress import Progress
from pipeline.training import build_state

NAN = math.nan
PARTS = 2
"""Micro-batches of a step in one process."""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture
def disturb(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Multiply the loss of some steps by a factor, of some the gradient alone, and stop at one as if by a signal."""

    def arm(factors: dict[int, float], stop_at: int | None = None, gradients: dict[int, float] | None = None) -> None:
        calls = iter(range(10**6))

        class Disturbed(build_state.Routing):
            def add(self, *arguments: Any) -> LossSums:
                found = super().add(*arguments)
                call = next(calls)
                step = call // PARTS + 1
                factor = factors.get(step, 1.0)
                if step == stop_at and call % PARTS == 0:
                    os.kill(os.getpid(), signal.SIGTERM)
                total = found.total * factor * (gradients or {}).get(step, 1.0)
                return LossSums(total, {name: value * factor for name, value in found.parts.items()})

        monkeypatch.setattr(build_state, "Routing", Disturbed)

    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)  # whatever the tests were started with
    yield arm
    signal.signal(signal.SIGTERM, before)


def learned(folder: Path, step: int) -> tuple[str, dict[str, bytes]]:
    """Weights and their average, and the state of the optimizer, after a step."""
    checkpoint = folder / "work" / f"step-{step:08d}"
    tensors = load_file(checkpoint / "optimizer.safetensors")
    optimizer = {name: t.numpy().tobytes() for name, t in tensors.items() if not name.startswith("interval/")}
    scalars = json.loads((checkpoint / "state.json").read_text())["optimizer"]
    digests = [digest_file(checkpoint / name) for name in ("model.safetensors", "average.safetensors")]
    return " ".join(digests), optimizer | {name: repr(value).encode() for name, value in scalars.items() if value}


@pytest.mark.parametrize(
    "optim",
    ["adamw_torch_fused", "adamw_torch", "adam", "sgd", "adagrad", "rmsprop", "adafactor", "muon", "torch.optim.NAdam"],
)
def test_skip_leaves_weights_and_optimizer_untouched(inputs, tmp_path, disturb, optim):
    disturb({1: NAN, 6: math.inf, 12: NAN})
    every = {"save_steps": 1, "save_total_limit": 20, "logging_steps": 1, "ema_decay": 0.9}
    run_train(inputs, tmp_path, optim=optim, on_nonfinite="skip", **every)
    assert not any(any(value) for value in learned(tmp_path, 1)[1].values())
    for step in range(2, 13):
        assert (learned(tmp_path, step) == learned(tmp_path, step - 1)) == (step in (6, 12)), step
    weights = load_file(tmp_path / "output" / "model" / "model.safetensors")
    assert all(tensor.isfinite().all() for tensor in weights.values())
    lines = [line for line in metrics(tmp_path / "output") if "train/skipped_steps" in line]
    assert [line["train/skipped_steps"] for line in lines] == [1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 3]
    assert [line["step"] for line in lines if "train/loss" not in line] == [1, 6, 12]


def test_a_skipped_step_leaves_nothing_in_the_means_of_a_record(inputs, tmp_path, disturb):
    disturb({2: NAN})
    run_train(inputs, tmp_path, on_nonfinite="skip")
    _, first = metrics(tmp_path / "output")[:2]
    assert first["step"] == 3
    assert first["train/loss"] == pytest.approx(math.log(64), rel=0.05)


@pytest.mark.parametrize("step", [1, 7, 12])
@pytest.mark.parametrize("optim", ["adamw_torch_fused", "sgd"])
def test_halt_ends_with_the_step_and_keeps_the_weights_that_met_it(inputs, tmp_path, disturb, optim, step):
    disturb({step: NAN})
    with pytest.raises(DivergedError, match=f"loss is nan at step {step};") as caught:
        run_train(inputs, tmp_path, optim=optim, logging_steps=5, save_steps=5)
    assert caught.value.exit_code == 70
    # The loss was broken after the fact: the step itself is sound.
    assert "run again, the same step is finite" in str(caught.value)


def test_norms_too_large_for_a_number_are_a_divergence(inputs, tmp_path):
    with pytest.raises(DivergedError, match=r"loss is nan at step 2;"):
        run_train(inputs, tmp_path, learning_rate=1e30, warmup_steps=0, logging_steps=1)


def test_too_many_skips_in_a_row_end_the_training(inputs, tmp_path, disturb):
    disturb(dict.fromkeys(range(5, 13), NAN))
    with pytest.raises(
        DivergedError, match="3 steps in a row were skipped, the last as loss is nan at step 7"
    ) as caught:
        run_train(inputs, tmp_path, on_nonfinite="skip", max_consecutive_skips=3, max_grad_norm=None)
    assert str(caught.value).endswith(
        "; lower train.learning_rate, raise train.warmup_steps, set or lower train.max_grad_norm"
    ), "skipping is on already, clipping is not"


@pytest.mark.parametrize("choice", ["warn", "skip"])
@pytest.mark.parametrize("is_of_loss", [True, False])
def test_a_spike_of_loss_or_gradient_is_skipped_or_only_told(inputs, tmp_path, disturb, choice, is_of_loss):
    settings = {"loss_spike_window": 4, "save_steps": 1, "save_total_limit": 20, "loss_spike_threshold": 50.0}
    disturb({9: 1e4} if is_of_loss else {}, gradients={9: 1 if is_of_loss else 1e4})
    summary = run_train(inputs, tmp_path, on_loss_spike=choice, **settings)
    is_skipped = choice == "skip"
    assert (learned(tmp_path, 9) == learned(tmp_path, 8)) == is_skipped
    last = metrics(tmp_path / "output")[-2]
    assert (last["train/loss_spikes"], last["train/skipped_steps"]) == (int(is_of_loss), int(is_skipped))
    assert (summary["loss_spikes"], summary["grad_norm_spikes"]) == (int(is_of_loss), 1)


@pytest.mark.parametrize("choice", ["warn", "skip", "rollback"])
def test_a_spike_at_the_last_step_is_told(inputs, tmp_path, disturb, monkeypatch, choice):
    told: list[str] = []
    monkeypatch.setattr(Progress, "say", lambda self, message: told.append(message))
    disturb({12: 1e4} if choice == "rollback" else {}, gradients={12: 1 if choice == "rollback" else 1e4})
    settings = {"loss_spike_window": 4, "loss_spike_threshold": 50.0, "logging_steps": 5, "eval_steps": None}
    summary = run_train(inputs, tmp_path, on_loss_spike=choice, **settings)
    [spike] = [message for message in told if "standard deviations above the median" in message]
    assert "step 12" in spike
    assert (summary["grad_norm_spikes"], summary["rollbacks"]) == (1, int(choice == "rollback"))
    if choice == "rollback":
        assert learned(tmp_path, 12)[0] == learned(tmp_path, 8)[0]


def test_rollback_goes_back_to_the_checkpoint_and_on_with_new_batches(inputs, tmp_path, disturb):
    disturb({7: 50.0})
    settings = {"loss_spike_window": 4, "loss_spike_threshold": 20.0, "save_steps": 4, "save_total_limit": 20}
    run_train(inputs, tmp_path, on_loss_spike="rollback", logging_steps=8, eval_steps=None, **settings)
    # Noticed when step 8 is recorded, before it is saved: its weights are those of step 4 again.
    assert learned(tmp_path, 8)[0] == learned(tmp_path, 4)[0]
    assert learned(tmp_path, 12)[0] != learned(tmp_path, 8)[0]
    state = json.loads((tmp_path / "work" / "step-00000008" / "state.json").read_text())["counters"]
    assert (state["rollbacks"], state["losses"]["spikes"], state["step"]) == (1, 1, 8)
    assert len(state["losses"]["values"]) == 4


def test_a_resumed_training_decides_as_an_undisturbed_one(inputs, tmp_path, disturb):
    settings = {"loss_spike_window": 8, "loss_spike_threshold": 20.0, "on_loss_spike": "skip"}
    disturb({10: 50.0})
    run_train(inputs, tmp_path / "whole", **settings)
    disturb({}, stop_at=8)
    cut = tmp_path / "cut"
    with pytest.raises(InterruptedRun):
        run_train(inputs, cut, **settings)
    disturb({2: 50.0})  # the second step after the resume is step 10
    run_train(inputs, cut, "output1", **settings)
    weights = "model/model.safetensors"
    assert digest_file(cut / "output1" / weights) == digest_file(tmp_path / "whole" / "output" / weights)


def test_a_loss_of_one_process_is_skipped_by_both(inputs, tmp_path):
    hit = ("forward", 5, "NAN")  # one micro-batch a step in each process: step 5
    assert train_in_children(
        inputs, tmp_path, 2, hit, at=1, on_nonfinite="skip", save_steps=1, save_total_limit=20
    ) == [0, 0]
    assert learned(tmp_path, 5) == learned(tmp_path, 4)
    assert learned(tmp_path, 6) != learned(tmp_path, 5)
    skipped = [line["train/skipped_steps"] for line in metrics(tmp_path / "output0") if "train/skipped_steps" in line]
    assert skipped == [0, 1, 1, 1]


@pytest.mark.parametrize("count", [1, 2])
def test_the_autopsy_names_the_planted_module_and_the_replay_reproduces_it(inputs, tmp_path, count):
    at = count - 1
    assert train_in_children(inputs, tmp_path, count, ("forward", 5, "PLANT"), at=at) == [70] * count
    where = " in process 1" if count == 2 else ""
    step = 5 if count == 2 else 3  # of one micro-batch, or of two
    error = (tmp_path / "error.txt").read_text()
    assert f"the output of {PLANTED} (Linear), whose weight holds 1 values that are not finite{where}" in error
    folder = tmp_path / "work" / "autopsy" / f"step-{step:08d}"
    assert f"descent replay {folder}" in error
    saved = json.loads((folder / "autopsy.json").read_text())
    assert (saved["process"], saved["name"], saved["micro_batch"]) == (at, PLANTED, 0)
    assert len(saved["windows"]) == 2
    found = CliRunner().invoke(app, ["replay", str(folder)])
    assert found.exit_code == 0
    assert f"step {step}: reproduced: the first value that is not finite is in the output of {PLANTED}" in found.output
    row = next(line for line in found.output.splitlines() if line.startswith(PLANTED) and " output " in line)
    assert "2x16x16" in row
    assert "6.25%" in row  # one of 16 channels
    # What a GPU's attention computed, the CPU's does again.
    (folder / "autopsy.json").write_text(json.dumps({**saved, "attention": "flex_attention"}))
    found = CliRunner().invoke(app, ["replay", str(folder)])
    assert (found.exit_code, "reproduced: the first value" in found.output) == (0, True)


def test_an_autopsy_that_cannot_be_replayed_says_why(tmp_path):
    def replay(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(app, ["replay", str(tmp_path), *arguments])
        return result.exit_code, result.output

    code, told = replay()
    assert code == 66
    assert "no autopsy is there (autopsy.json is missing)" in told
    (tmp_path / "autopsy.json").write_text("{")
    code, told = replay()
    assert code == 65
    assert "the autopsy cannot be read: JSONDecodeError" in told
    assert replay("--device", "tpu")[0] == 2
    if not torch.cuda.is_available():
        code, told = replay("--device", "cuda:0")
        assert code == 78
        assert "there is no such device here" in told
