"""Adafactor of transformers. torch's own, `Adafactor`, waits for the device in each step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pipeline.training.optimization.optimizers.base_optimizer import OptimizerFamily

if TYPE_CHECKING:
    import torch

    from pipeline.training.optimization.optimization_config import OptimizationConfig


class Adafactor(OptimizerFamily):
    """`adafactor` (Shazeer & Stern 2018) at the rate of the schedule."""

    names: ClassVar = ("adafactor",)
    can_be_sharded: ClassVar = False

    def decoupled_decay(self, name: str, group: Mapping[str, Any]) -> float | None:
        """Not known where the class chooses a rate of its own."""
        has_own_rate = group["scale_parameter"] or group["relative_step"]
        return None if has_own_rate else float(group["lr"] * group["weight_decay"])

    def build(
        self, config: OptimizationConfig, groups: Sequence[dict[str, Any]], device: torch.device
    ) -> torch.optim.Optimizer:
        from transformers import optimization

        settings = {"lr": config.learning_rate, "scale_parameter": False, "relative_step": False}
        return optimization.Adafactor(groups, **{**settings, **config.optim_args})
