"""Stochastic gradient descent with momentum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import Field, model_validator

from pipeline.training.optimization.optimizers.base_optimizer import OptimizerConfig, OptimizerFamily

if TYPE_CHECKING:
    import torch

    from pipeline.training.optimization.optimization_config import OptimizationConfig


class SgdConfig(OptimizerConfig):
    """Settings of SGD."""

    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Momentum of `sgd`."""

    nesterov: bool = False
    """Nesterov's momentum in `sgd`."""

    @model_validator(mode="after")
    def _nesterov_has_momentum(self) -> Self:
        if self.nesterov and (self.optim != "sgd" or self.momentum == 0):
            raise ValueError("nesterov is for sgd with a momentum above 0")
        return self


def sgd_decay(group: Mapping[str, Any]) -> float | None:
    """`coupled_decay` of a group of torch's SGD. A gradient of one step moves weights by the learning rate times 1 -
    dampening, times 1 + momentum + momentum^2 + ...; with Nesterov's momentum one part of it is not dampened. None of a
    momentum of 1 or more, which never ends."""
    momentum, kept = group["momentum"], 1 - group["dampening"]
    if momentum >= 1:
        return None
    repeats = 1.0
    if momentum:
        repeats = 1 + kept * momentum / (1 - momentum) if group["nesterov"] else kept / (1 - momentum)
    return float(group["lr"] * group["weight_decay"] * repeats)


class Sgd(OptimizerFamily):
    """`sgd` with momentum."""

    names: ClassVar = ("sgd",)

    def supports_found_inf(self, name: str) -> bool:
        return True

    def decoupled_decay(self, name: str, group: Mapping[str, Any]) -> float | None:
        """That of the gradient, where no momentum mixes it with those of steps before."""
        return None if group["momentum"] and group["weight_decay"] else float(group["lr"] * group["weight_decay"])

    def coupled_decay(self, name: str, group: Mapping[str, Any]) -> float | None:
        return sgd_decay(group)

    def build(
        self, config: OptimizationConfig, groups: Sequence[dict[str, Any]], device: torch.device
    ) -> torch.optim.Optimizer:
        import torch

        settings: dict[str, Any] = {"lr": config.learning_rate, "fused": True}
        settings |= {"momentum": config.momentum, "nesterov": config.nesterov, **config.optim_args}
        return torch.optim.SGD(groups, **settings)
