"""Adam (Kingma & Ba 2015) and AdamW (Loshchilov & Hutter 2019) of torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pipeline.training.optimization.optimizers.base_optimizer import OptimizerFamily

if TYPE_CHECKING:
    import torch

    from pipeline.training.optimization.optimization_config import OptimizationConfig


class Adam(OptimizerFamily):
    """Kernels are fused but in `adamw_torch`."""

    names: ClassVar = ("adamw_torch_fused", "adamw_torch", "adam")

    def build(
        self, config: OptimizationConfig, groups: Sequence[dict[str, Any]], device: torch.device
    ) -> torch.optim.Optimizer:
        """See `OptimizerFamily`."""
        import torch

        kind = torch.optim.Adam if config.optim == "adam" else torch.optim.AdamW
        settings = {"lr": config.learning_rate, **adam_settings(config), "fused": config.optim != "adamw_torch"}
        return kind(groups, **{**settings, **config.optim_args})


def adam_settings(config: OptimizationConfig) -> dict[str, Any]:
    """The settings of Adam under its own names."""
    return {"betas": (config.adam_beta1, config.adam_beta2), "eps": config.adam_epsilon}
