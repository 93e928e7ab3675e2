"""One entry's update by the optimizer's formula, in float64: to follow, and to hold against the optimizer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch

UpdateFormula = Literal["sgd", "adam", "adamw"]


@dataclass(frozen=True)
class WorkedUpdate:
    """The settings and the steps of a formula by name, in their order, and the change of the weight."""

    settings: dict[str, float]
    steps: dict[str, float]
    change: float


def formula_of(optimizer: torch.optim.Optimizer, group: Mapping[str, Any]) -> UpdateFormula | None:
    """The formula by which an optimizer moves a group of parameters; None for others than those here."""
    if group.get("maximize") or group.get("amsgrad"):
        return None
    if type(optimizer) is torch.optim.SGD:
        return "sgd"
    if type(optimizer) in (torch.optim.Adam, torch.optim.AdamW):
        return "adamw" if group["decoupled_weight_decay"] else "adam"
    return None


def work_out(
    kind: UpdateFormula, group: Mapping[str, Any], state: Mapping[str, float], weight: float, gradient: float
) -> WorkedUpdate:
    """The update of one entry from its state before the step, which is empty before the first."""
    if kind == "sgd":
        return _sgd(group, state, weight, gradient)
    return _adam(kind, group, state, weight, gradient)


def _sgd(group: Mapping[str, Any], state: Mapping[str, float], weight: float, gradient: float) -> WorkedUpdate:
    """Momentum as in PyTorch, where the rate is outside of it (Sutskever et al. 2013, with that difference)."""
    names = ("lr", "momentum", "dampening", "weight_decay")
    settings = {name: float(group[name]) for name in names}
    rate, momentum, dampening, decay = settings.values()
    steps = {"with_decay": gradient + decay * weight}
    direction = steps["with_decay"]
    if momentum:
        before = state.get("momentum_buffer")
        buffer = direction if before is None else momentum * before + (1 - dampening) * direction
        steps["momentum"] = buffer
        if group["nesterov"]:
            steps["nesterov"] = direction + momentum * buffer
        direction = steps.get("nesterov", buffer)
    return WorkedUpdate(settings, steps, -rate * direction)


def _adam(
    kind: UpdateFormula, group: Mapping[str, Any], state: Mapping[str, float], weight: float, gradient: float
) -> WorkedUpdate:
    """Kingma & Ba 2015; with decoupled decay Loshchilov & Hutter 2019."""
    settings = {"lr": float(group["lr"]), "beta1": float(group["betas"][0]), "beta2": float(group["betas"][1])}
    settings |= {"eps": float(group["eps"]), "weight_decay": float(group["weight_decay"])}
    rate, beta1, beta2, epsilon, decay = settings.values()
    used = gradient + decay * weight if kind == "adam" else gradient
    number = state.get("step", 0.0) + 1
    mean = beta1 * state.get("exp_avg", 0.0) + (1 - beta1) * used
    square = beta2 * state.get("exp_avg_sq", 0.0) + (1 - beta2) * used**2
    steps = {"t": number} | ({"with_decay": used} if kind == "adam" else {})
    steps |= {"mean": mean, "square": square}
    steps |= {"mean_corrected": mean / (1 - beta1**number), "square_corrected": square / (1 - beta2**number)}
    steps["step"] = rate * steps["mean_corrected"] / (math.sqrt(steps["square_corrected"]) + epsilon)
    steps["decay"] = rate * decay * weight if kind == "adamw" else 0.0
    return WorkedUpdate(settings, steps, -steps["step"] - steps["decay"])
