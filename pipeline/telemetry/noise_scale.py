"""The gradient noise scale: how many targets a batch needs for its gradient to be as much signal as noise.

It is tr(S) / |G|^2, with G the gradient of the loss over all data and S the covariance of that of one target. Both are
estimated from the squared gradient norms of batches of two sizes (McCandlish et al. 2018, "An Empirical Model of
Large-Batch Training", appendix A), here of the first micro-batch of a step and of the whole step, and averaged over
the steps measured. The targets of a sequence are not independent, so that it says which batch of sequences as these.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn

from pipeline.modeling.sharding import own_parts

MEMORY = 0.9
"""Of the averages, from one measured step to the next."""


@dataclass
class NoiseScale:
    """Averages over the steps measured, of tr(S) and |G|^2 alike scaled. Checkpoints hold it."""

    noise: float = 0.0
    signal: float = 0.0

    def add(self, small_squares: float, large_squares: float, small: float, large: float) -> None:
        """Take a step: the squared norms of the gradient of `small` and of `large` targets, each a mean over them."""
        if large <= small or not (math.isfinite(small_squares) and math.isfinite(large_squares)):
            return
        signal = (large * large_squares - small * small_squares) / (large - small)
        noise = (small_squares - large_squares) / (1 / small - 1 / large)
        self.noise = MEMORY * self.noise + (1 - MEMORY) * noise
        self.signal = MEMORY * self.signal + (1 - MEMORY) * signal

    @property
    def value(self) -> float | None:
        """The noise scale in targets; None while an average is not positive, as chance may have it at first."""
        return self.noise / self.signal if self.noise > 0 and self.signal > 0 else None


@torch.no_grad()
def own_gradient_squares(model: nn.Module) -> torch.Tensor:
    """The sum of the squares of this process's parts of the gradient, float64 on the device. No process waits for
    another."""
    gradients = own_parts([one.grad for one in model.parameters() if one.grad is not None])
    return torch.stack(torch._foreach_norm(gradients, dtype=torch.float32)).double().square().sum()
