"""Optimizers of bitsandbytes, whose state is packed into 8 bits or paged (Dettmers et al. 2022, arXiv 2110.02861)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pipeline.errors import ConfigError
from pipeline.training.optimization.optimizers.adam import adam_settings
from pipeline.training.optimization.optimizers.base_optimizer import OptimizerFamily

if TYPE_CHECKING:
    import torch

    from pipeline.training.optimization.optimization_config import OptimizationConfig

CLASSES = {"adamw": "AdamW", "lion": "Lion", "ademamix": "AdEMAMix", "rmsprop_bnb": "RMSprop", "adamw_bnb": "AdamW"}
PAGED = ("adamw", "lion", "ademamix")
"""Those whose class knows `is_paged`."""
MOMENTS = {"AdamW": 2, "Lion": 1, "AdEMAMix": 3, "RMSprop": 1}


class EightBit(OptimizerFamily):
    """With the extra `bitsandbytes`: `adamw_8bit`, `lion_8bit`, `ademamix_8bit`, `rmsprop_bnb_8bit`, their `_32bit`
    variants and, of the first three, `paged_` ones."""

    names: ClassVar = (
        *(f"{name}_{bits}bit" for name in CLASSES for bits in (8, 32)),
        *(f"paged_{name}_{bits}bit" for name in PAGED for bits in (8, 32)),
        "ademamix", "rmsprop_bnb",
    )  # fmt: skip
    can_be_sharded: ClassVar = False

    def decoupled_decay(self, name: str, group: Mapping[str, Any]) -> float | None:
        """By the kernels' source; of Lion they differ in it, of RMSprop decay enters the gradient."""
        kind, _ = class_and_bits(name)
        is_known = kind == "AdamW" or (kind == "RMSprop" and not group["weight_decay"])
        return float(group["lr"] * group["weight_decay"]) if is_known else None

    def build(
        self, config: OptimizationConfig, groups: Sequence[dict[str, Any]], device: torch.device
    ) -> torch.optim.Optimizer:
        try:
            import bitsandbytes
        except ImportError:
            raise ConfigError(
                f"train.optim: {config.optim} needs bitsandbytes, which is not installed; install the extra with "
                "pip install 'descent-pipeline[bitsandbytes]'"
            ) from None
        kind, bits = class_and_bits(config.optim)
        settings = {"lr": config.learning_rate, "optim_bits": bits}
        if config.optim.startswith("paged_"):
            settings["is_paged"] = True
        if kind == "AdamW":
            settings |= adam_settings(config)
        return getattr(bitsandbytes.optim, kind)(groups, **{**settings, **config.optim_args})

    def build_without_data(self, config: OptimizationConfig, groups: Sequence[dict[str, Any]]) -> torch.optim.Optimizer:
        """Its kernels need data and a GPU, so another one holds as much state."""
        from pipeline.training.optimization.optimizers.bitsandbytes_state import PackedState

        kind, bits = class_and_bits(config.optim)
        return PackedState(groups, MOMENTS[kind], bits)


def class_and_bits(name: str) -> tuple[str, int]:
    """The class of bitsandbytes that a name means, and the bits of each number of its state."""
    base = name.removeprefix("paged_").removesuffix("_8bit").removesuffix("_32bit")
    return CLASSES[base], 8 if name.endswith("_8bit") else 32
