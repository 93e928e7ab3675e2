"""fp16's scale of the loss, with a GradScaler on the CPU, where Accelerate itself has none."""

from __future__ import annotations

import math

import pytest
import torch
from accelerate import Accelerator
from training.tiny import make_inputs, run_train

from pipeline.training import build_state
from pipeline.training.recording.metrics_file import read_metrics


def train(folder) -> list[dict[str, float]]:
    run_train(make_inputs(folder / "inputs"), folder, max_steps=4, logging_steps=1, telemetry_steps=1, eval_steps=None)
    return [record for record in read_metrics(folder / "work") if "train/loss" in record or "train/grad_norm" in record]


def train_scaled(monkeypatch: pytest.MonkeyPatch, folder, scale: float) -> list[dict[str, float]]:
    prepare = build_state.prepare

    def prepare_scaled(config, accelerator, *rest):
        network, optimizer = prepare(config, accelerator, *rest)
        monkeypatch.setattr(Accelerator, "mixed_precision", "fp16")
        accelerator.native_amp = True
        accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        optimizer.__init__(optimizer.optimizer, device_placement=False, scaler=accelerator.scaler)
        return network, optimizer

    class Sums(build_state.RunningSums):
        def __init__(self, config, device):
            super().__init__(config.model_copy(update={"mixed_precision": "fp16"}), device)

    monkeypatch.setattr(build_state, "prepare", prepare_scaled)
    monkeypatch.setattr(build_state, "RunningSums", Sums)
    return train(folder)


def norms_of_matrices(record: dict[str, float]) -> list[float]:
    return [value for name, value in record.items() if name.startswith("matrices/") and name.endswith("/grad_norm")]


def test_norms_are_those_of_the_unscaled_gradient(monkeypatch, tmp_path):
    plain = train(tmp_path / "plain")
    records = train_scaled(monkeypatch, tmp_path / "scaled", 2.0**10)
    norms = [record["train/grad_norm"] for record in records]
    assert norms == pytest.approx([record["train/grad_norm"] for record in plain], rel=1e-4)
    assert len(records) == 4
    for record in records:
        assert math.hypot(*norms_of_matrices(record)) == pytest.approx(record["train/grad_norm"], rel=1e-4)


def test_a_step_whose_gradient_overflows_is_skipped_and_records_no_matrices(monkeypatch, tmp_path):
    first, *others = train_scaled(monkeypatch, tmp_path, 2.0**127)
    assert first["train/skipped_steps"] == 1
    assert norms_of_matrices(first) == []
    assert others
