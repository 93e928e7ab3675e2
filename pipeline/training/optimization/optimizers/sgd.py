"""Stochastic gradient descent with momentum."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pipeline.training.optimization.optimizers.base_optimizer import OptimizerFamily

if TYPE_CHECKING:
    import torch

    from pipeline.training.optimization.optimization_config import OptimizationConfig


class Sgd(OptimizerFamily):
    """Kernels are fused."""

    names: ClassVar = ("sgd",)

    def build(
        self, config: OptimizationConfig, groups: Sequence[dict[str, Any]], device: torch.device
    ) -> torch.optim.Optimizer:
        """See `OptimizerFamily`."""
        import torch

        settings: dict[str, Any] = {
            "lr": config.learning_rate,
            "momentum": config.momentum,
            "nesterov": config.nesterov,
        }
        return torch.optim.SGD(groups, **{**settings, "fused": True, **config.optim_args})
