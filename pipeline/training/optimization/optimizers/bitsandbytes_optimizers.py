"""Optimizers of bitsandbytes, whose state is packed into 8 bits or paged (Dettmers et al. 2022, arXiv 2110.02861)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pipeline.errors import ConfigError
from pipeline.training.optimization.optimizers.adam import adam_settings
from pipeline.training.optimization.optimizers.base_optimizer import OptimizerFamily

if TYPE_CHECKING:
    import torch

    from pipeline.training.optimization.optimization_config import OptimizationConfig

CLASSES = {"adamw": "AdamW", "adamw_bnb": "AdamW", "lion": "Lion", "ademamix": "AdEMAMix", "rmsprop_bnb": "RMSprop"}
MOMENTS = {"AdamW": 2, "Lion": 1, "AdEMAMix": 3, "RMSprop": 1}


class EightBit(OptimizerFamily):
    """Names are those of transformers' TrainingArguments: `paged_`, the class, `_8bit` or `_32bit`."""

    names: ClassVar = (
        "adamw_8bit", "adamw_bnb_8bit", "paged_adamw_8bit", "paged_adamw_32bit", "lion_8bit", "lion_32bit",
        "paged_lion_8bit", "paged_lion_32bit", "ademamix", "ademamix_8bit", "paged_ademamix_32bit",
        "paged_ademamix_8bit", "rmsprop_bnb", "rmsprop_bnb_8bit",
    )  # fmt: skip
    can_be_sharded: ClassVar = False

    def build(
        self, config: OptimizationConfig, groups: Sequence[dict[str, Any]], device: torch.device
    ) -> torch.optim.Optimizer:
        """See `OptimizerFamily`."""
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
