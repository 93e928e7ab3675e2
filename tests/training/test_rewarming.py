"""A training that is re-warmed goes on from a finished one, to the bits of one that never ended."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from harness import tells
from training.tiny import SECTION, metrics, outcome, run_train, train_in_child

from pipeline.modeling.weights import read_lazily
from pipeline.training.checkpointing.checkpoints import checkpoint_of
from pipeline.training.checkpointing.extending import adopt, find_checkpoint
from pipeline.training.train_config import TrainConfig

NUM_SEQUENCES, TARGET_TOKENS = 27, 420
REWARMED = {"rewarm_steps": 2, "rewarm_from": [{"steps": 7, "schedule_steps": 7}]}
AGAIN = {
    "max_steps": 17,
    "rewarm_steps": 3,
    "rewarm_from": [{"steps": 7, "schedule_steps": 7}, {"steps": 12, "schedule_steps": 12, "rewarm_steps": 2}],
}
PATIENT = {"eval_steps": 2, "early_stopping_patience": 2, "early_stopping_threshold": 100.0}
"""No validation but the first is better by so much."""


def go_on(work: Path, folder: Path, earlier: dict[str, Any], **changes: Any) -> int:
    """Begin a work folder in `folder` by that of an earlier training; returns the step of its checkpoint."""
    section, before = (TrainConfig(**SECTION | values) for values in (changes, changes | earlier))
    found = find_checkpoint(section, before, NUM_SEQUENCES, TARGET_TOKENS, work)
    assert isinstance(found, Path), found
    adopt(found, folder / "work")
    return int(found.name.removeprefix("step-"))


def test_though_killed_it_is_that_of_one_that_never_ended(gpt2_inputs, tmp_path):
    """And so is one that is re-warmed twice. The end of the earlier one stays in the records."""
    short, long, longer, whole = (tmp_path / name for name in ("short", "long", "longer", "whole"))
    for folder in (short, long, longer, whole):
        folder.mkdir()
    plain = {"max_steps": 7, "rewarm_steps": None, "rewarm_from": []}
    assert train_in_child(gpt2_inputs, short, **plain) == 0
    before = outcome(short, "output0")
    assert go_on(short / "work", long, plain, **REWARMED) == 7
    assert train_in_child(gpt2_inputs, long, ("forward", 2, "SIGKILL"), **REWARMED) == -9
    assert train_in_child(gpt2_inputs, long, ("forward", 7, "SIGINT"), **REWARMED) == 75
    assert train_in_child(gpt2_inputs, long, **REWARMED) == 0
    assert train_in_child(gpt2_inputs, whole, **REWARMED) == 0
    assert outcome(long, "output2") == outcome(whole, "output0")
    assert outcome(short, "output0") == before
    steps = [line["step"] for line in metrics(long / "output2")]
    assert steps == [0, 3, 6, 6, 7, 7, 9, 12, 12], "recorded and validated at 7, where the earlier one ended"

    assert go_on(long / "work", longer, {**REWARMED, "max_steps": 12}, **AGAIN) == 12
    assert train_in_child(gpt2_inputs, longer, **AGAIN) == 0
    assert train_in_child(gpt2_inputs, whole, **AGAIN | {"save_steps": 5}) == 0, "from the checkpoints of the other"
    assert outcome(longer, "output0")["model"] == outcome(whole, "output1")["model"]


def test_its_rates_are_those_of_the_formula_and_its_optimizer_the_earlier_ones(gpt2_inputs, tmp_path):
    changes = {"logging_steps": 1, "min_lr_ratio": 0.1}
    plain = changes | {"max_steps": 7, "rewarm_steps": None, "rewarm_from": []}
    run_train(gpt2_inputs, tmp_path / "short", **plain)
    go_on(tmp_path / "short/work", tmp_path / "long", plain, **changes | REWARMED)
    moments = read_lazily([checkpoint_of(tmp_path / "long/work", 7) / "optimizer.safetensors"])
    assert all(bool((moments[name].read() > 0).any()) for name in moments if name.endswith("exp_avg_sq"))
    summary = run_train(gpt2_inputs, tmp_path / "long", **changes | REWARMED)
    assert summary["resumed_from_steps"] == [7]
    rates = [line["train/learning_rate"] for line in metrics(tmp_path / "long/output") if "train/learning_rate" in line]
    # 2 of warm-up and 5 down, 2 up again from a tenth of the rate and 3 down.
    falls = [
        0.01 * (0.1 + 0.9 * (1 + math.cos(math.pi * step / steps)) / 2) for steps in (5, 3) for step in range(steps)
    ]
    expected = [0.0, 0.005, *falls[:5], 0.001, 0.0055, *falls[5:]]
    assert rates == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("export", ["best", "last"])
def test_patience_counts_anew_where_a_training_that_stopped_early_goes_on(gpt2_inputs, tmp_path, export):
    plain = PATIENT | {"export": export, "rewarm_steps": None, "rewarm_from": []}
    changes = PATIENT | {"export": export, "max_steps": 30, "rewarm_steps": 2, "early_stopping_patience": 1}
    changes |= {"rewarm_from": [{"steps": 6, "schedule_steps": 12}]}
    short = run_train(gpt2_inputs, tmp_path / "short", **plain)
    assert short["stopped_early"]["step"] == 6
    earlier = {"max_steps": 12, **plain}
    assert go_on(tmp_path / "short/work", tmp_path / "long", earlier, **changes) == 6
    # The first validation of the new count is at 8, the next one is not better.
    for name in ("long", "whole"):
        summary = run_train(gpt2_inputs, tmp_path / name, **changes)
        assert summary["stopped_early"]["step"] == 10
        assert summary["resumed_from_steps"] == ([6] if name == "long" else [])
    assert outcome(tmp_path / "long", "output") == outcome(tmp_path / "whole", "output")


def test_without_its_checkpoint_the_steps_are_taken_again(tmp_path):
    section, earlier = TrainConfig(**SECTION | REWARMED), TrainConfig(**SECTION | {"max_steps": 7})
    found = find_checkpoint(section, earlier, NUM_SEQUENCES, TARGET_TOKENS, tmp_path)
    assert tells(found, "checkpoint of step 7 is not there", "steps are taken again", "train.init_from")
