"""Validation inside the training loop."""

from __future__ import annotations

import math

import torch
from torch import nn

from pipeline.config.train import TrainConfig
from pipeline.evaluation.losses import LossSums, sum_losses
from pipeline.modeling.sharding import reshard
from pipeline.tokens.reader import PackedSplit
from pipeline.training.averaging import WeightAverage
from pipeline.training.interrupts import Interrupts
from pipeline.training.processes import Processes

LARGEST_EXPONENT = 700.0


class _Stopped(Exception):
    """Left in the middle, because the training is to stop."""


def validate(
    section: TrainConfig,
    network: nn.Module,
    split: PackedSplit,
    average: WeightAverage,
    device: torch.device,
    processes: Processes,
    interrupts: Interrupts,
) -> dict[str, float] | None:
    """Loss (nats a token) and perplexity on the split, from its start, on at most `eval_batches` global batches; with
    `eval_ema` also those of the averaged weights.

    The processes share the work and all return the same; None when a signal came to one of them. Changes neither the
    model nor any random state.
    """
    batch_size = section.per_device_eval_batch_size or section.device_batch_size(processes.count)
    windows = section.eval_batches and section.eval_batches * section.global_batch_size

    def before_batch() -> None:
        if any(processes.agree(interrupts.signal)):
            raise _Stopped

    def measure(prefix: str) -> dict[str, float]:
        try:
            sums = sum_losses(
                network,
                split,
                batch_size,
                device,
                max_batches=windows and math.ceil(windows / batch_size),
                process_index=processes.index,
                num_processes=processes.count,
                before_batch=before_batch,
            )
        finally:
            reshard(network)
        loss = LossSums.from_tensor(processes.sum(sums)).loss
        return {f"{prefix}loss": loss, f"{prefix}perplexity": math.exp(min(loss, LARGEST_EXPONENT))}

    try:
        values = measure("eval/")
        if section.eval_ema:
            with average.in_place_of_weights():
                values |= measure("eval/ema_")
    except _Stopped:
        return None
    return values
