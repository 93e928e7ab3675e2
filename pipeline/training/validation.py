"""Validation inside the training loop."""

from __future__ import annotations

import math

import torch

from pipeline.evaluation.losses import Batch, sum_losses
from pipeline.modeling.sharding import reshard
from pipeline.training.train_state import TrainState


class _Stopped(Exception):
    """Left in the middle, because the training is to stop."""


def validate(state: TrainState) -> dict[str, float] | None:
    """The task's figures on the split, from its start, on at most `eval_batches` global batches. With `eval_ema` also
    those of the averaged weights.

    The processes share the work and all return the same; None when a signal came to one of them. Changes neither the
    model nor any random state.
    """
    config, model, split, processes = state.config, state.model, state.validation_split, state.processes
    dims = processes.dims
    batch_size = config.per_device_eval_batch_size or config.micro_batch_size(dims.dp_world_size)
    windows = config.eval_batches and config.eval_batches * config.global_batch_size

    def sums_of(logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        return state.task.validation_sums(logits, batch, config)

    def before_batch() -> None:
        if any(processes.all_reduce_max(state.interrupts.signal)):
            raise _Stopped

    def measure(prefix: str) -> dict[str, float]:
        try:
            sums = sum_losses(
                model,
                split,
                batch_size,
                state.device,
                sums_of,
                max_batches=windows and math.ceil(windows / batch_size),
                dp_rank=dims.dp_rank,
                dp_world_size=dims.dp_world_size,
                before_batch=before_batch,
            )
        finally:
            reshard(model)
        means = state.task.validation_means(processes.all_reduce_sum(sums))
        return {f"{prefix}{name}": value for name, value in means.items()}

    try:
        values = measure("eval/")
        if config.eval_ema:
            with state.ema.in_place_of_weights():
                values |= measure("eval/ema_")
    except _Stopped:
        return None
    return values
