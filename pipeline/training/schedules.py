"""The learning rate as a pure function of the step."""

from __future__ import annotations

import math

from pipeline.config.train import TrainConfig


def learning_rate(section: TrainConfig, step: int, max_steps: int) -> float:
    """Learning rate of update number `step`, counted from 0, in a run of `max_steps` updates.

    It rises linearly over `warmup_steps`, so that update 0 already moves the weights and update
    `warmup_steps - 1` uses the full rate; then it stays, falls linearly, or falls as half a cosine
    (Loshchilov & Hutter 2017), towards `min_lr_ratio` of the full rate at `max_steps`.
    """
    peak = section.learning_rate
    if step < section.warmup_steps:
        return peak * (step + 1) / section.warmup_steps
    if section.lr_scheduler_type == "constant":
        return peak
    done = (step - section.warmup_steps) / max(1, max_steps - section.warmup_steps)
    left = 1 - done if section.lr_scheduler_type == "linear" else (1 + math.cos(math.pi * done)) / 2
    return peak * (section.min_lr_ratio + (1 - section.min_lr_ratio) * left)
