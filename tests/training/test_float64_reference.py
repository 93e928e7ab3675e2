"""Every figure of a record, whoever shares the work: those of the same training in float64, by hand."""

from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from modeling.checkpoints import SHAPE
from safetensors.torch import load_file, save_file
from torch import nn
from training.reference import Reference
from training.tiny import SECTION, in_processes, make_inputs, metrics, run_train

from pipeline.atomic import digest_file
from pipeline.telemetry.input_rows import InputRows
from pipeline.training.due import Due
from pipeline.training.train_config import TrainConfig

TOLERANCE = 2e-4
"""Relative, of sums of small differences in float32, carried over some steps."""

MIXTRAL = {**SHAPE, "num_local_experts": 3, "num_experts_per_tok": 2, "initializer_range": 0.2}
CHANGES: dict[str, Any] = {
    "max_steps": 6,
    "eval_steps": 3,
    "eval_batches": None,
    "lr_scheduler_type": "constant",
    "max_grad_norm": 0.3,
    "max_grad_value": 0.05,
    "z_loss_coef": 0.1,
    "router_aux_loss_coef": 0.2,
    "router_z_loss_coef": 0.1,
    "ema_decay": 0.9,
    "eval_ema": True,
}
NOT_FIGURES = ("health/", "unmeasured/")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """With four hidden units that never fire at first."""
    inputs = make_inputs(tmp_path_factory.mktemp("inputs"), "mixtral", MIXTRAL)
    path = inputs["model"] / "model" / "model.safetensors"
    weights = load_file(path)
    for name, weight in weights.items():
        if "layers.0" in name and (name.endswith("w1.weight") or "gate_up_proj" in name):
            weight[..., :4, :] = 0
    save_file(weights, path, {"format": "pt"})
    return inputs


def train_in(index: int, inputs: dict[str, Path], folder: Path, count: int, is_cut: bool, changes: Any) -> None:
    compiled = nn.Module.compile
    # As inductor sees it, without minutes of a C++ compiler.
    nn.Module.compile = lambda module, **given: compiled(module, **given, backend="aot_eager")
    if is_cut:
        os.environ.update({"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_RESHARD_AFTER_FORWARD": "true"})
    run_train(inputs, folder, f"output{index}", index, count, **changes)


# Positions in the global batch of four of the sequences whose gradients tell the noise.
WAYS: dict[str, tuple[int, bool, dict[str, Any], list[list[int]]]] = {
    "at once": (1, False, {"per_device_train_batch_size": 4}, []),
    "in micro-batches": (1, False, {"per_device_train_batch_size": 1, "gradient_checkpointing": True}, [[0]]),
    "in two processes": (2, False, {"per_device_train_batch_size": 1}, [[0], [2]]),
    "shared out": (2, True, {"per_device_train_batch_size": 1}, [[0, 2]]),
    "compiled": (1, False, {"per_device_train_batch_size": 2, "torch_compile": True}, [[0, 1]]),
}
FAST = ("in micro-batches", "shared out")


@pytest.mark.parametrize("way", [one if one in FAST else pytest.param(one, marks=pytest.mark.slow) for one in WAYS])
def test_every_figure_is_that_of_float64_by_hand(inputs, tmp_path, way):
    count, is_cut, changes, parts = WAYS[way]
    changes = CHANGES | changes
    assert in_processes(count, train_in, inputs, tmp_path, count, is_cut, changes) == [0] * count
    found = metrics(tmp_path / "output0")
    expected = [*Reference(inputs, TrainConfig(**{**SECTION, **changes})).records(parts)]
    assert len(found) == len(expected)
    assert expected[0]["probe/layers.0.mlp.experts.act_fn/dead_units"] == 4 / 32
    for one, other in zip(found, expected, strict=True):
        figures = {tag: value for tag, value in one.items() if not tag.startswith(NOT_FIGURES)}
        assert figures.keys() == other.keys()
        assert figures == pytest.approx(other, rel=TOLERANCE, abs=1e-7)


def train_unseen(index: int, inputs: dict[str, Path], folder: Path, count: int, is_cut: bool, changes: Any) -> None:
    """With nothing of the inside measured, nor the embedding watched."""
    Due.telemetry = lambda due, step: False
    InputRows.watching = lambda rows: nullcontext()
    InputRows.take_step = lambda rows, norm: None
    train_in(index, inputs, folder, count, is_cut, changes)


@pytest.mark.parametrize("is_cut", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["copies", "parts"])
def test_looking_on_changes_no_bit_of_what_two_processes_learn(tmp_path, is_cut):
    """A mixture of experts with dropout, several micro-batches, and activations that are computed again."""
    inputs = make_inputs(tmp_path / "inputs", "mixtral", MIXTRAL | {"attention_dropout": 0.3})
    changes = CHANGES | {"per_device_train_batch_size": 1, "gradient_checkpointing": True, "telemetry_steps": 3}
    found = []
    for train in (train_in, train_unseen):
        folder = tmp_path / train.__name__
        assert in_processes(2, train, inputs, folder, 2, is_cut, changes) == [0, 0]
        lines = [line for line in metrics(folder / "output0") if line["step"] > 0]
        losses = [{tag: one for tag, one in line.items() if tag.startswith(("train/", "eval/"))} for line in lines]
        assert any(tag.startswith("probe/") for line in lines for tag in line) == (train is train_in)
        for line in losses:
            line.pop("train/grad_noise_scale", None)  # which is measured with it
        found.append((losses, digest_file(folder / "output0" / "model" / "model.safetensors")))
    assert found[0] == found[1]
