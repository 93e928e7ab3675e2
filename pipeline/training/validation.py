"""Validation inside the training loop."""

from __future__ import annotations

import math

import torch
from torch import nn

from pipeline.config.train import TrainConfig
from pipeline.evaluation.losses import LossSums, sum_losses
from pipeline.tokens.reader import PackedSplit
from pipeline.training.interrupts import Interrupts
from pipeline.training.processes import Processes

LARGEST_EXPONENT = 700.0


class _Stopped(Exception):
    """Left in the middle, because the training is to stop."""


def validate(
    section: TrainConfig,
    network: nn.Module,
    split: PackedSplit,
    device: torch.device,
    processes: Processes,
    interrupts: Interrupts,
) -> dict[str, float] | None:
    """Loss (nats a token) and perplexity on the split, from its start, on at most `eval_batches` global batches.

    The processes share the work and all return the same; None when a signal came to one of them. Changes neither the
    model nor any random state.
    """
    batch_size = section.per_device_eval_batch_size or section.device_batch_size(processes.count)
    windows = section.eval_batches and section.eval_batches * section.global_batch_size

    def before_batch() -> None:
        if any(processes.agree(interrupts.signal)):
            raise _Stopped

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
    except _Stopped:
        return None
    loss = LossSums.from_tensor(processes.sum(sums)).loss
    return {"eval/loss": loss, "eval/perplexity": math.exp(min(loss, LARGEST_EXPONENT))}
