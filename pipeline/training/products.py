"""How long a device takes for the matrix products of training."""

from __future__ import annotations

import time

import torch

REPEATS = 3


@torch.no_grad()
def seconds_of_products(device: torch.device, dtype: torch.dtype, size: int) -> tuple[float, float, float]:
    """Seconds that `a @ b`, `a @ b.T` and `a.T @ b` of square matrices take, the best of some tries.

    They are those of a linear layer: its output, the gradient of its input and that of its weights. Values are
    random, as processors take longer for them than for constants, and no global generator is asked for them.
    """
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(size, size, generator=generator).to(device, dtype) for _ in range(2))
    best = [float("inf")] * 3
    for _ in range(REPEATS):
        for index, (left, right) in enumerate(((a, b), (a, b.T), (a.T, b))):
            best[index] = min(best[index], _timed(left, right))
    return best[0], best[1], best[2]


def _timed(left: torch.Tensor, right: torch.Tensor) -> float:
    began = time.perf_counter()
    product = left @ right
    if product.device.type == "cuda":
        torch.cuda.synchronize(product.device)
    return time.perf_counter() - began
