"""What training makes small."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch.nn import functional

from pipeline.evaluation.losses import regression_losses
from pipeline.tokens.reader import IGNORED_LABEL
from pipeline.training.train_config import TrainConfig


class Objective(NamedTuple):
    """Sums over the target tokens of a micro-batch, so that those of any split of a global batch add up.

    `total` is what the gradient is taken of. `parts` are recorded as means a target token (or a label of a sequence),
    as `train/<name>`: the plain cross-entropy or error as `loss` and, where more is minimized, the total as `objective`
    and the z-loss before its coefficient as `z_loss`.
    """

    total: torch.Tensor
    parts: dict[str, torch.Tensor]


def objective(output: Any, labels: torch.Tensor, config: TrainConfig) -> Objective:
    """Cross-entropy in nats of a model's `output.logits` (B, T, V) against shifted labels (B, T); -100 is no target.
    The same of scores of classes (B, C) against their numbers (B,). Of predicted numbers (B, 1) against numbers (B,),
    where NaN is no target, the squared error or Huber's loss.

    Label smoothing e makes it (1 - e) of that and e of the cross-entropy with the uniform distribution (Szegedy et al.
    2016). The z-loss is the squared logarithm of the softmax's normalizer, times `z_loss_coef` (Chowdhery et al. 2022).
    """
    if labels.is_floating_point():
        loss = regression_losses(output.logits, labels, config.huber_delta_used).sum()
        return Objective(loss, {"loss": loss.detach()})
    rows, targets = output.logits.float().flatten(0, -2), labels.flatten()
    smoothing, coefficient = config.label_smoothing_factor, config.z_loss_coef
    if not smoothing and not coefficient:
        loss = functional.cross_entropy(rows, targets, ignore_index=IGNORED_LABEL, reduction="sum")
        return Objective(loss, {"loss": loss.detach()})
    is_target = targets != IGNORED_LABEL
    log_normalizer = rows.logsumexp(-1)
    of_target = rows.gather(1, targets.clamp(min=0).unsqueeze(1)).squeeze(1)
    loss = _sum(log_normalizer - of_target, is_target)
    total, parts = loss, {"loss": loss.detach()}
    if smoothing:
        total = (1 - smoothing) * loss + smoothing * _sum(log_normalizer - rows.mean(-1), is_target)
    if coefficient:
        z_loss = _sum(log_normalizer.square(), is_target)
        total = total + coefficient * z_loss
        parts["z_loss"] = z_loss.detach()
    return Objective(total, {**parts, "objective": total.detach()})


def no_targets(labels: torch.Tensor) -> torch.Tensor:
    """Labels of the same shape and type, none of which is a target."""
    return torch.full_like(labels, torch.nan if labels.is_floating_point() else IGNORED_LABEL)


def _sum(values: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    return torch.where(chosen, values, 0.0).sum()
