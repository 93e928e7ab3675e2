"""Adam and AdamW of torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from pipeline.training.optimization.optimizers.base_optimizer import OptimizerConfig, OptimizerFamily

if TYPE_CHECKING:
    import torch

    from pipeline.training.optimization.optimization_config import OptimizationConfig


class AdamConfig(OptimizerConfig):
    """Settings of Adam, wherever it is used."""

    adam_beta1: float = Field(default=0.9, ge=0, lt=1)
    """Decay of the mean of gradients in adam, adamw and its 8-bit variants, and in muon's AdamW."""

    adam_beta2: float = Field(default=0.95, ge=0, lt=1)
    """Decay of the mean of squared gradients in the same optimizers."""

    adam_epsilon: float = Field(default=1e-8, gt=0)
    """Added to the denominator of the update of the same optimizers."""


class Adam(OptimizerFamily):
    """`adamw_torch_fused`, `adamw_torch` (Loshchilov & Hutter 2019) and `adam` (Kingma & Ba 2015)."""

    names: ClassVar = ("adamw_torch_fused", "adamw_torch", "adam")

    def supports_found_inf(self, name: str) -> bool:
        return True

    def decoupled_decay(self, name: str, group: Mapping[str, Any]) -> float | None:
        return torch_decay(group)

    def build(
        self, config: OptimizationConfig, groups: Sequence[dict[str, Any]], device: torch.device
    ) -> torch.optim.Optimizer:
        import torch

        kind = torch.optim.Adam if config.optim == "adam" else torch.optim.AdamW
        settings = {"lr": config.learning_rate, **adam_settings(config), "fused": config.optim != "adamw_torch"}
        return kind(groups, **{**settings, **config.optim_args})


def torch_decay(group: Mapping[str, Any]) -> float | None:
    """`decoupled_decay` of a group whose class in torch knows both kinds of decay."""
    is_known = group["decoupled_weight_decay"] or not group["weight_decay"]
    return float(group["lr"] * group["weight_decay"]) if is_known else None


def adam_settings(config: AdamConfig) -> dict[str, Any]:
    """The settings of Adam under its own names."""
    return {"betas": (config.adam_beta1, config.adam_beta2), "eps": config.adam_epsilon}
