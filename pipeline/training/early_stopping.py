"""When a training ends before its last step: its validation loss no longer falls.

Decided as transformers' EarlyStoppingCallback does: from what a checkpoint holds, so that a resumed training ends at
the same step, and from losses that are equal in all processes. One with more steps or more patience passes through the
same states, so that it can go on from there.
"""

from __future__ import annotations

from typing import Any

from pipeline.training.checkpointing.counters import Counters
from pipeline.training.due import Due
from pipeline.training.train_config import TrainConfig


def note_validation(due: Due, counters: Counters, loss: float) -> None:
    """Count the validation after this step. One after the last step, or the last before a re-warming, has nothing left
    to decide and does not count."""
    config = due.config
    if counters.step in config.rewarmed_at:
        begin_phase(counters)
    if config.early_stopping_patience is None or due.end(counters.step):
        return
    lowest = counters.lowest_loss
    is_better = lowest is None or lowest - loss > config.early_stopping_threshold
    counters.validations_without_improvement = 0 if is_better else counters.validations_without_improvement + 1
    if lowest is None or loss < lowest:
        counters.lowest_loss, counters.lowest_loss_step = loss, counters.step


def begin_phase(counters: Counters) -> None:
    """Let the validations count anew: the loss rises as the learning rate does, which is no reason to stop."""
    counters.lowest_loss = counters.lowest_loss_step = None
    counters.validations_without_improvement = 0


def ends_early(config: TrainConfig, counters: Counters) -> bool:
    """Whether patience is at its end. Before the last re-warming nothing ends: where it begins is given."""
    patience = config.early_stopping_patience
    if counters.step <= max(config.rewarmed_at, default=-1):
        return False
    return patience is not None and counters.validations_without_improvement >= patience


def early_end(config: TrainConfig, counters: Counters, max_steps: int) -> dict[str, Any] | None:
    """Where a training ended early, of how many steps, and the validations that decided it; None for one that did not.
    JSON values."""
    if not ends_early(config, counters):
        return None
    return {
        "step": counters.step,
        "max_steps": max_steps,
        "lowest_loss": counters.lowest_loss,
        "lowest_loss_step": counters.lowest_loss_step,
        "validations_without_improvement": counters.validations_without_improvement,
    }


def early_end_in_words(config: TrainConfig, counters: Counters, max_steps: int) -> str:
    """Why a training ended early, for people."""
    count, margin = counters.validations_without_improvement, config.early_stopping_threshold
    by_more = f" by more than {margin:g}" if margin else ""
    lowest, step = counters.lowest_loss, counters.lowest_loss_step
    return (
        f"stopped early after step {counters.step:,} of {max_steps:,}: in {count} validation{'s' if count > 1 else ''} "
        f"the loss did not fall{by_more}; the lowest is {lowest:.4g}, of step {step:,}"
    )


def exported_in_words(config: TrainConfig, counters: Counters, exported_step: int) -> str:
    """Which weights become the artifact of a training that ended early, for people."""
    if config.export == "best":
        return f"the weights of step {exported_step:,}, which had the lowest validation loss, become the artifact"
    what = "the averaged weights" if config.export == "ema" else "the weights"
    return (
        f"{what} of step {exported_step:,} become the artifact, as train.export: {config.export} says; with "
        f"export: best it would be those of step {counters.lowest_loss_step:,}, of the lowest validation loss"
    )
