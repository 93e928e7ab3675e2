"""The noise scale is that of a gradient whose signal and noise are known."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from telemetry.test_rules import FACTS
from training.tiny import make_inputs, outcome, run_train, verdicts_told

from pipeline.telemetry.noise_scale import NoiseScale
from pipeline.telemetry.panel import replay


def test_signal_and_noise_of_a_known_gradient_are_found():
    random, width, small, large = np.random.default_rng(0), 400, 4, 32
    gradient, deviation = np.full(width, 0.1), 0.7
    scale = NoiseScale()
    found = []
    for _ in range(400):
        each = gradient + deviation * random.standard_normal((large, width))
        squares = [float(np.square(each[:count].mean(0)).sum()) for count in (small, large)]
        scale.add(*squares, small, large)
        found.append(scale.value or 0.0)
    assert np.mean(found[50:]) == pytest.approx(width * deviation**2 / np.square(gradient).sum(), rel=0.05)


def test_what_cannot_be_told_is_none():
    scale = NoiseScale()
    assert scale.value is None
    scale.add(1.0, float("inf"), 2, 4)
    scale.add(1.0, 1.0, 4, 4)  # one micro-batch
    assert scale.value is None
    scale.add(1.0, 2.0, 2, 4)  # a larger batch has the larger gradient: chance
    assert scale.value is None


def first(folder: Any) -> dict[str, float]:
    lines = [json.loads(line) for line in (folder / "output/metrics.jsonl").read_text().splitlines()]
    return next(line for line in lines if "train/loss" in line)


def test_a_training_measures_it_from_its_first_micro_batch(tmp_path):
    inputs, records = make_inputs(tmp_path), {}
    # A global batch of two rows is the first micro-batch of one of four.
    for rows in (2, 4):
        settings = {"global_batch_size": rows, "per_device_train_batch_size": 2, "max_steps": 1, "warmup_steps": 0}
        run_train(inputs, tmp_path / str(rows), logging_steps=1, **settings)
        records[rows] = first(tmp_path / str(rows))
    small, large = (records[rows]["train/grad_norm"] ** 2 for rows in (2, 4))
    few, many = (records[rows]["target_tokens"] for rows in (2, 4))
    noise = (small - large) / (1 / few - 1 / many)
    signal = (many * large - few * small) / (many - few)
    assert records[4]["train/grad_noise_scale"] == pytest.approx(noise / signal, rel=1e-3)
    assert "train/grad_noise_scale" not in records[2]
    assert (records[2]["unmeasured/noise_scale"], records[4].get("unmeasured/noise_scale")) == (1, None)
    reasons = {}
    for rows, records_of in records.items():
        panel = replay(FACTS, [records_of])
        reasons[rows] = [one for one in panel.verdicts() if one.what == "noise_scale"]
    assert reasons[4] == []
    [unknown] = reasons[2]
    assert (unknown.kind, unknown.verdict) == ("gradients", "unknown")
    assert "a step is 1 micro-batch; to have it: a train.per_device_train_batch_size" in unknown.evidence.words
    shown = outcome(tmp_path / "2", "output")["tensorboard"]
    [(step, text)] = shown["verdicts/gradients"]
    assert (step, b"unknown: noise scale" in text) == (1, True)
    assert shown["unmeasured/noise_scale"] == [(1, 1.0)]
    assert "noise_scale" not in {one["what"] for one in verdicts_told(tmp_path / "2/output")}, "nothing changed"
    assert records[4]["train/loss_max"] == pytest.approx(records[4]["train/loss"])
    assert records[4]["train/loss_max_step"] == 1
