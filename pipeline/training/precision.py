"""Whether a device multiplies bf16 natively, by what torch says of it, and what to say where it does not."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import torch

from pipeline.config.train import TrainConfig
from pipeline.errors import ConfigError
from pipeline.machine import ARM_FLAG, BF16_FLAGS, limiting_isa
from pipeline.training.products import Products

SIZE, TRIES = 512, 3
"""Rows and columns of the products in which an emulated bf16 is compared: those of a small model's layers."""


def multiplies_bf16(device: torch.device) -> bool:
    """Whether a device has instructions for products in bf16 and torch uses them."""
    if device.type == "cuda":
        with torch.cuda.device(device):
            return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    capabilities = torch.cpu.get_capabilities()
    flags = BF16_FLAGS if limiting_isa(os.environ) is None else (ARM_FLAG,)
    # oneDNN's word alone says less: it takes every AVX-512 for enough.
    return any(capabilities.get(flag) for flag in flags) and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def check_precision(
    section: TrainConfig, chosen: Mapping[str, Any], device: torch.device, say: Callable[[str], None] | None
) -> None:
    """Compare what was chosen for `mixed_precision: auto` with what torch says of this process's device; tell people of
    a bf16 that they asked for and that is emulated, where there is somebody to `say` it to.

    Raises ConfigError when both disagree, so that no process computes otherwise than process 0 chose.
    """
    is_native, name = multiplies_bf16(device), {"cpu": "CPU", "cuda": "GPU"}.get(device.type, device.type)
    if "mixed_precision" in chosen:
        if (section.mixed_precision == "bf16") != is_native:
            verb = "multiplies" if is_native else "does not multiply"
            raise ConfigError(
                f"train.mixed_precision: auto came to {section.mixed_precision}, but torch says that the {name} {verb} "
                "bf16 natively; write bf16 or no"
            )
    elif section.mixed_precision == "bf16" and not is_native and say is not None:
        say(
            f"warning: train.mixed_precision is bf16, which the {name} only emulates: products take "
            f"{slowdown(device):.1f} times as long as in float32; write auto or no"
        )
    if section.optim == "muon" and not is_native and say is not None:
        say(
            f"warning: train.optim is muon, which orthogonalizes in bf16, and the {name} only emulates that: products "
            f"take {slowdown(device):.1f} times as long as in float32; take adamw_torch_fused"
        )


def slowdown(device: torch.device) -> float:
    """How many times as long as in float32 the products of a layer's forward and backward pass take in bf16."""
    return _seconds(device, torch.bfloat16) / _seconds(device, torch.float32)


def in_words(precision: str, device: torch.device) -> str:
    """In what a training on a device computes its products."""
    if precision != "bf16":
        return {"no": "float32"}.get(precision, precision)
    return "bf16, natively" if multiplies_bf16(device) else "bf16, emulated"


def _seconds(device: torch.device, dtype: torch.dtype) -> float:
    """Of all three products, each the best of some tries."""
    products = Products(device, dtype, SIZE)
    return sum(map(min, zip(*(products.seconds() for _ in range(TRIES)), strict=True)))
