"""The learning rate as a pure function of the step: transformers' schedules, in one or several phases."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import Any

from pipeline.errors import ConfigError
from pipeline.training.optimization.optimization_config import NEVER_END, SCHEDULER_KWARGS, OptimizationConfig
from pipeline.training.train_config import TrainConfig

FLOOR_IN_TRANSFORMERS = {
    "cosine": ("cosine_with_min_lr", "min_lr_rate"),
    "cosine_with_min_lr": ("cosine_with_min_lr", "min_lr_rate"),
    "cosine_warmup_with_min_lr": ("cosine_warmup_with_min_lr", "min_lr_rate"),
    "warmup_stable_decay": ("warmup_stable_decay", "min_lr_ratio"),
}
"""Schedules of transformers that end at a part of the highest rate, and the setting that says so."""


@dataclass(frozen=True)
class Phase:
    """A part of a training with a schedule of its own, which would end after `schedule_steps` steps of the training.

    Unless it is the first, it begins after `begin` steps of others with `rewarm_steps` in which the rate rises.
    """

    begin: int
    rewarm_steps: int
    schedule_steps: int

    @property
    def first(self) -> int:
        """The update at which its schedule begins."""
        return self.begin + self.rewarm_steps


def learning_rate(config: OptimizationConfig, step: int, max_steps: int) -> float:
    """Learning rate of update number `step`, counted from 0, in a run of `max_steps` updates.

    It rises over the warm-up from 0 at update 0 to the full rate at update `num_warmup_steps`, then follows
    `lr_scheduler_type` to where `max_steps` would be the next update. Where it is re-warmed after `begin` updates, it
    rises from what it would be at the next one to the full rate at update `begin + rewarm_steps`, then follows
    `lr_scheduler_type` without a warm-up (Ibrahim et al. 2024, section 3).
    """
    begun = [phase for phase in phases_of(config, max_steps) if phase.begin <= step]
    return config.learning_rate * _factor_in(config, begun, step)


def phases_of(config: OptimizationConfig, max_steps: int) -> list[Phase]:
    """The phases of a run of `max_steps` updates: one, and one more for each re-warming."""
    earlier = config.rewarm_from
    begins = [0, *config.rewarmed_at]
    rewarming = [one.rewarm_steps for one in earlier[1:]] + ([config.rewarm_steps] if earlier else [])
    ends = [*(one.schedule_steps for one in earlier), max_steps]
    return [Phase(*one) for one in zip(begins, [0, *(steps or 0 for steps in rewarming)], ends, strict=True)]


def num_steps(config: TrainConfig, num_sequences: int, target_tokens: int) -> int:
    """Optimizer steps of a training on a split of so many sequences and target tokens."""
    if config.max_steps is not None:
        return config.max_steps
    # In fractions: 0.07 * 100 is more than 7 in floating point.
    epochs = Fraction(str(config.num_train_epochs or 0))
    if config.max_tokens is not None:
        epochs = Fraction(config.max_tokens, target_tokens)
    return math.ceil(epochs * num_sequences / config.global_batch_size)


def num_lasting_steps(config: OptimizationConfig, max_steps: int) -> float:
    """First updates whose rates stay the same when `max_steps` is raised; infinity where none depends on it."""
    if config.warmup_ratio:
        return 0
    if config.lr_scheduler_type in NEVER_END:
        return math.inf
    if config.lr_scheduler_type == "warmup_stable_decay":
        begins = decay_start(config, max_steps)
        return math.inf if begins is None else begins
    return num_warmup_steps(config, max_steps)


def num_common_steps(config: OptimizationConfig, steps: int, other: OptimizationConfig, other_steps: int) -> float:
    """First updates whose rates are the same in two runs that differ in their length and re-warming alone; infinity
    where all are that both have."""
    runs = [phases_of(config, steps), phases_of(other, other_steps)]
    for index, (one, two) in enumerate(zip(*runs, strict=False)):
        if one.rewarm_steps != two.rewarm_steps:
            return one.begin
        lasting = math.inf
        if one.schedule_steps != two.schedule_steps:
            lasting = min(_num_lasting_in(config, one), _num_lasting_in(other, two))
        following = [phases[index + 1].begin for phases in runs if index + 1 < len(phases)]
        if len(following) < 2 or following[0] != following[1] or lasting < following[0]:
            return min(lasting, *following) if following else lasting
    raise AssertionError("a run has a last phase")


def _num_lasting_in(config: OptimizationConfig, phase: Phase) -> float:
    if phase.begin == 0:
        return num_lasting_steps(config, phase.schedule_steps)
    return phase.first + num_lasting_steps(_without_warmup(config), phase.schedule_steps - phase.first)


def decay_start(config: OptimizationConfig, max_steps: int) -> int | None:
    """Updates before the decay, where that is the end of the run, of whatever length."""
    extra = config.lr_scheduler_kwargs
    is_at_end = config.lr_scheduler_type == "warmup_stable_decay" and extra.num_stable_steps is None
    if not is_at_end or config.warmup_ratio:
        return None
    assert extra.num_decay_steps is not None
    return max_steps - extra.num_decay_steps


def num_warmup_steps(config: OptimizationConfig, max_steps: int) -> int:
    """Steps of the warm-up, whether given as such or as a part of all."""
    if config.warmup_ratio is None:
        return config.warmup_steps
    return math.ceil(config.warmup_ratio * max_steps)


def check_phases(config: OptimizationConfig, max_steps: int) -> None:
    """Raises ConfigError when warm-up and decay are longer than the run."""
    warmup, decay = num_warmup_steps(config, max_steps), config.lr_scheduler_kwargs.num_decay_steps or 0
    if warmup > max_steps:
        raise ConfigError(f"train.warmup_steps {warmup} is more than the {max_steps} steps of the run")
    if config.lr_scheduler_kwargs.num_stable_steps is None and warmup + decay > max_steps:
        raise ConfigError(
            f"train.lr_scheduler_kwargs.num_decay_steps {decay} and a warm-up of {warmup} are more than the "
            f"{max_steps} steps of the run; lower one of them"
        )
    for phase in phases_of(config, max_steps)[1:]:
        if phase.first + decay > phase.schedule_steps:
            raise ConfigError(
                f"train.rewarm_steps {phase.rewarm_steps}{f' and num_decay_steps {decay}' if decay else ''} after the "
                f"first {phase.begin} steps are more than the {phase.schedule_steps} steps of the run; lower it or "
                "raise train.max_steps"
            )


def _factor_in(config: OptimizationConfig, phases: list[Phase], step: int) -> float:
    """The part of the highest rate in the last of the phases that were begun."""
    phase = phases[-1]
    if len(phases) == 1:
        return _factor(config, step, phase.schedule_steps)
    if step < phase.first:
        low = _factor_in(config, phases[:-1], phase.begin)
        return low + (1 - low) * (step - phase.begin) / phase.rewarm_steps
    return _factor(_without_warmup(config), step - phase.first, phase.schedule_steps - phase.first)


def _without_warmup(config: OptimizationConfig) -> OptimizationConfig:
    return config.model_copy(update={"warmup_steps": 0, "warmup_ratio": None})


def _factor(config: OptimizationConfig, step: int, max_steps: int) -> float:
    """The part of the highest rate, as transformers computes it, but for a `min_lr_ratio` where it knows none."""
    kind, floor = str(config.lr_scheduler_type), config.min_lr_ratio
    given = {key: getattr(config.lr_scheduler_kwargs, key) for key in SCHEDULER_KWARGS[kind]}
    settings = {key: value for key, value in given.items() if value is not None}
    if floor and kind in FLOOR_IN_TRANSFORMERS:
        kind, key = FLOOR_IN_TRANSFORMERS[kind]
        settings[key], floor = floor, 0.0
    elif floor and kind == "polynomial":
        settings["lr_end"] = 0.0
    elif kind == "constant":
        kind = "constant_with_warmup"
    warmup = num_warmup_steps(config, max_steps)
    part = _schedule(kind, config.learning_rate, warmup, max_steps, tuple(settings.items()))(step)
    return floor + (1 - floor) * part if floor and step >= warmup else part


@cache
def _schedule(
    kind: str, rate: float, warmup: int, max_steps: int, settings: tuple[tuple[str, Any], ...]
) -> Callable[[int], float]:
    """A schedule of transformers as a function of the update."""
    import torch
    from transformers import get_scheduler

    kwargs = dict(settings)
    # A decay of no steps would divide by zero.
    length = None if "num_stable_steps" in kwargs else max(max_steps, warmup + 1)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(()))], lr=rate)
    part: Callable[[int], float] = get_scheduler(kind, optimizer, warmup, length, kwargs).lr_lambdas[0]
    return part
