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


class Sgd(OptimizerFamily):
    """`sgd` with momentum."""

    names: ClassVar = ("sgd",)

    def supports_found_inf(self, name: str) -> bool:
        return True

    def decoupled_decay(self, name: str, group: Mapping[str, Any]) -> float | None:
        return 0.0

    def build(
        self, config: OptimizationConfig, groups: Sequence[dict[str, Any]], device: torch.device
    ) -> torch.optim.Optimizer:
        import torch

        settings: dict[str, Any] = {"lr": config.learning_rate, "fused": True}
        settings |= {"momentum": config.momentum, "nesterov": config.nesterov, **config.optim_args}
        return torch.optim.SGD(groups, **settings)
