"""Validation inside the training loop."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from pipeline.evaluation.losses import Batch, model_logits, shared_batches
from pipeline.modeling.inputs import evaluating
from pipeline.modeling.sharding import reshard
from pipeline.training.train_state import TrainState


def validate(state: TrainState) -> dict[str, float] | None:
    """The task's figures on the split, from its start, on at most `eval_batches` global batches. With `eval_ema` also
    those of the averaged weights.

    The processes share the work and all return the same; None when a signal came to one of them. Changes neither the
    model nor any random state.
    """
    values = _measure(state, "eval/")
    if values is not None and state.config.eval_ema:
        with state.ema.in_place_of_weights():
            averaged = _measure(state, "eval/ema_")
        values = None if averaged is None else values | averaged
    return values


def _measure(state: TrainState, prefix: str) -> dict[str, float] | None:
    """The figures of the weights that the model has now."""
    sums = _sum_batches(state)
    reshard(state.model)
    if sums is None:
        return None
    means = state.task.validation_means(state.processes.all_reduce_sum(sums))
    return {f"{prefix}{name}": value for name, value in means.items()}


def _sum_batches(state: TrainState) -> torch.Tensor | None:
    """The task's sums over this process's batches, (n,) float64 on the device; None after a signal."""
    sums: torch.Tensor | None = None
    with evaluating(state.model):
        for batch, counts in _validation_batches(state):
            if any(state.processes.all_reduce_max(state.interrupts.signal)):
                return None
            found = state.task.validation_sums(model_logits(state.model, batch), batch, state.config)
            found = found if counts else torch.zeros_like(found)
            sums = found if sums is None else sums + found
    return sums


def _validation_batches(state: TrainState) -> Iterator[tuple[Batch, bool]]:
    config, dims = state.config, state.processes.dims
    batch_size = config.per_device_eval_batch_size or config.micro_batch_size(dims.dp_world_size)
    max_batches = None
    if config.eval_batches is not None:
        max_batches = math.ceil(config.eval_batches * config.global_batch_size / batch_size)
    return shared_batches(
        state.validation_split,
        batch_size,
        state.device,
        max_batches=max_batches,
        dp_rank=dims.dp_rank,
        dp_world_size=dims.dp_world_size,
    )
