"""Validation inside the training loop."""

from __future__ import annotations

import math

import torch
from torch import nn

from pipeline.config.train import TrainConfig
from pipeline.evaluation.losses import LossSums, sum_losses
from pipeline.tokens.reader import PackedSplit

LARGEST_EXPONENT = 700.0


def validate(section: TrainConfig, network: nn.Module, split: PackedSplit, device: torch.device) -> dict[str, float]:
    """Loss (nats a token) and perplexity on the split, from its start, on at most `eval_batches` batches.

    Changes neither the model nor any random state.
    """
    batch_size = section.per_device_eval_batch_size or section.per_device_train_batch_size or section.global_batch_size
    loss = LossSums.from_tensor(sum_losses(network, split, batch_size, device, max_batches=section.eval_batches)).loss
    return {"eval/loss": loss, "eval/perplexity": math.exp(min(loss, LARGEST_EXPONENT))}
