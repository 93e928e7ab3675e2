"""The matrix products of training, timed."""

from __future__ import annotations

import time

import torch


class Products:
    """The products of a linear layer with square matrices: `a @ b`, its output; `a @ b.T`, the gradient of its input;
    and `a.T @ b`, that of its weights.

    Values are random, as processors do not take the same time for constants; no global generator is asked for them.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype, size: int) -> None:
        generator = torch.Generator(device).manual_seed(0)
        a, b = (torch.rand(size, size, generator=generator, device=device).to(dtype) for _ in range(2))
        self._pairs = ((a, b), (a, b.T), (a.T, b))
        self.flops = 2 * size**3
        """Operations of each of them."""

    @torch.no_grad()
    def seconds(self) -> tuple[float, ...]:
        """How long each of them takes, once."""
        return tuple(_timed(left, right) for left, right in self._pairs)


def _timed(left: torch.Tensor, right: torch.Tensor) -> float:
    began = time.perf_counter()
    product = left @ right
    if product.device.type != "cpu":
        torch.accelerator.synchronize(product.device)
    return time.perf_counter() - began
