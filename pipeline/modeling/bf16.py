"""Whether a device multiplies bf16 natively, by what torch says of it."""

from __future__ import annotations

import os

import torch

from pipeline.machine import ARM_FLAG, BF16_FLAGS, limiting_isa


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
