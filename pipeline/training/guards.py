"""Numbers that are not finite end the training before they are recorded, saved or exported."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from pipeline.errors import DivergedError
from pipeline.training.checkpoints import list_checkpoints, step_of


def check_finite(values: Mapping[str, float], step: int, work: Path) -> None:
    """Raises DivergedError naming the first of the values that is not finite."""
    for tag, value in values.items():
        if not math.isfinite(value):
            raise _diverged(f"{tag} is {value}", step, work)


def check_weights(model: nn.Module, step: int, work: Path) -> None:
    """Raises DivergedError when a weight is not finite. Copies one value from the device."""
    norms = torch._foreach_norm([parameter.detach() for parameter in model.parameters()], dtype=torch.float32)
    if not bool(torch.stack(list(norms)).isfinite().all()):
        raise _diverged("a weight is not finite", step, work)


def _diverged(what: str, step: int, work: Path) -> DivergedError:
    saved = list_checkpoints(work)
    good = f"the last good checkpoint is of step {step_of(saved[-1])}" if saved else "no checkpoint was saved before"
    return DivergedError(
        f"training diverged: {what} at step {step}; {good}; lower train.learning_rate, raise train.warmup_steps "
        "or lower train.max_grad_norm"
    )
