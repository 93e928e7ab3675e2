"""Check the precision that `auto` chose against what torch reports. Warn if bf16 is only emulated."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from pipeline.errors import ConfigError
from pipeline.modeling.bf16 import multiplies_bf16
from pipeline.training.optimization.optimizers import family_of
from pipeline.training.recording.matmul_timing import Products
from pipeline.training.train_config import TrainConfig

SIZE, TRIES = 512, 3
"""Rows and columns of the products in which an emulated bf16 is compared: those of a small model's layers."""


def check_precision(
    config: TrainConfig, chosen: Mapping[str, Any], device: torch.device, say: Callable[[str], None] | None
) -> None:
    """Compare what was chosen for `mixed_precision: auto` with what torch says of this process's device. Warn of a bf16
    that was asked for and is emulated, if there is a `say`.

    Raises ConfigError when both disagree, so that no process computes otherwise than process 0 chose.
    """
    is_native, name = multiplies_bf16(device), {"cpu": "CPU", "cuda": "GPU"}.get(device.type, device.type)
    if "mixed_precision" in chosen:
        if (config.mixed_precision == "bf16") != is_native:
            verb = "multiplies" if is_native else "does not multiply"
            raise ConfigError(
                f"train.mixed_precision: auto came to {config.mixed_precision}, but torch says that the {name} {verb} "
                "bf16 natively; write bf16 or no"
            )
    elif config.mixed_precision == "bf16" and not is_native and say is not None:
        say(
            f"warning: train.mixed_precision is bf16, which the {name} only emulates: products take "
            f"{slowdown(device):.1f} times as long as in float32; write auto or no"
        )
    if family_of(config.optim).multiplies_in_bf16 and not is_native and say is not None:
        say(
            f"warning: train.optim is {config.optim}, which orthogonalizes in bf16, and the {name} only emulates that: "
            f"products take {slowdown(device):.1f} times as long as in float32; take adamw_torch_fused"
        )


def slowdown(device: torch.device) -> float:
    """How many times as long as in float32 the products of a layer's forward and backward pass take in bf16."""
    return _seconds(device, torch.bfloat16) / _seconds(device, torch.float32)


def precision_in_words(precision: str, device: torch.device) -> str:
    """In what a training on a device computes its products."""
    if precision != "bf16":
        return {"no": "float32"}.get(precision, precision)
    return "bf16, natively" if multiplies_bf16(device) else "bf16, emulated"


def _seconds(device: torch.device, dtype: torch.dtype) -> float:
    """Time of all three products, the best of some tries for each."""
    products = Products(device, dtype, SIZE)
    tries = [products.seconds() for _ in range(TRIES)]
    return sum(min(seconds) for seconds in zip(*tries, strict=True))
