"""Validation inside the training loop."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch

from pipeline.evaluation.losses import LossSums, Measure, number_sums, sum_losses, token_sums
from pipeline.modeling.sharding import reshard
from pipeline.tokens.labelled_split import LabelledSplit
from pipeline.training.train_state import TrainState

LARGEST_EXPONENT = 700.0


class _Stopped(Exception):
    """Left in the middle, because the training is to stop."""


def validate(state: TrainState) -> dict[str, float] | None:
    """Loss (nats a token) and perplexity on the split, from its start, on at most `eval_batches` global batches; of
    classes loss and accuracy, of numbers loss, mean squared and mean absolute error. With `eval_ema` also those of the
    averaged weights.

    The processes share the work and all return the same; None when a signal came to one of them. Changes neither the
    model nor any random state.
    """
    config, network, split, processes = state.config, state.network, state.validation_split, state.processes
    dims = processes.dims
    batch_size = config.per_device_eval_batch_size or config.device_batch_size(dims.dp_world_size)
    windows = config.eval_batches and config.eval_batches * config.global_batch_size
    measure_sums: Measure = token_sums
    means: Callable[[torch.Tensor], dict[str, float]] = _means_of_tokens
    if isinstance(split, LabelledSplit):
        means = _means_of_classes
        if split.targets.dtype.kind == "f":
            measure_sums, means = partial(number_sums, huber_delta=config.huber_delta_used), _means_of_numbers

    def before_batch() -> None:
        if any(processes.agree(state.interrupts.signal)):
            raise _Stopped

    def measure(prefix: str) -> dict[str, float]:
        try:
            sums = sum_losses(
                network,
                split,
                batch_size,
                state.device,
                measure=measure_sums,
                max_batches=windows and math.ceil(windows / batch_size),
                process_index=dims.dp_rank,
                num_processes=dims.dp_world_size,
                before_batch=before_batch,
            )
        finally:
            reshard(network)
        return {f"{prefix}{name}": value for name, value in means(processes.sum(sums)).items()}

    try:
        values = measure("eval/")
        if config.eval_ema:
            with state.average.in_place_of_weights():
                values |= measure("eval/ema_")
    except _Stopped:
        return None
    return values


def _means_of_tokens(sums: torch.Tensor) -> dict[str, float]:
    loss = LossSums.from_tensor(sums).loss
    return {"loss": loss, "perplexity": math.exp(min(loss, LARGEST_EXPONENT))}


def _means_of_classes(sums: torch.Tensor) -> dict[str, float]:
    found = LossSums.from_tensor(sums)
    return {"loss": found.loss, "accuracy": found.correct / found.tokens}


def _means_of_numbers(sums: torch.Tensor) -> dict[str, float]:
    loss, count, squared, absolute = sums.tolist()
    return {"loss": loss / count, "mse": squared / count, "mae": absolute / count}
