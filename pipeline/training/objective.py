"""What training makes small."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch.nn import functional

from pipeline.tokens.reader import IGNORED_LABEL


class Objective(NamedTuple):
    """Sums over the target tokens of a device batch, so that those of any split of a global batch add up.

    `total` is what the gradient is taken of. `parts` are recorded as means a target token, as `train/<name>`.
    """

    total: torch.Tensor
    parts: dict[str, torch.Tensor]


def objective(output: Any, labels: torch.Tensor) -> Objective:
    """Cross-entropy in nats of a model's `output.logits` (B, T, V) against shifted labels (B, T); -100 is no target."""
    logits = output.logits.float()
    loss = functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED_LABEL, reduction="sum")
    return Objective(loss, {"loss": loss.detach()})
