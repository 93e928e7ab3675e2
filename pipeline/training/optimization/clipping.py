"""What is done to the gradient between the backward pass and the step."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn

from pipeline.modeling.sharding import whole
from pipeline.training.optimization.optimization_config import OptimizationConfig
from pipeline.training.optimization.sparsity import keep_largest


@dataclass(frozen=True)
class GradientNorms:
    """Scalars on the device: global norm as the backward pass left it, as the step sees it, and whether it was scaled
    down (1 or 0); and the part of its entries that were cut."""

    norm: torch.Tensor
    clipped_norm: torch.Tensor
    clipped: torch.Tensor
    cut_share: torch.Tensor


class Clipping:
    """Keeps the largest entries, cuts every entry, and scales the whole down, in this order and where asked to."""

    def __init__(self, config: OptimizationConfig, device: torch.device, model: nn.Module) -> None:
        self._device = device
        self._model = model
        self._density = config.gradient_density
        self._max_value = config.max_grad_value
        self._max_norm = config.max_grad_norm or math.inf

    @torch.no_grad()
    def __call__(self) -> GradientNorms:
        """Change the gradient in place; it must be unscaled. Copies nothing to the host."""
        only_norm = self._density is None and self._max_value is None
        # Not by Accelerate's `clip_grad_norm_`, which would unscale the gradients again.
        # Measured first: cutting would hide an infinite entry.
        limit = self._max_norm if only_norm else math.inf
        norm = self._value(nn.utils.clip_grad_norm_(self._model.parameters(), limit))
        before, cut_share = norm, torch.zeros_like(norm)
        if not only_norm:
            parameters = [parameter for parameter in self._model.parameters() if parameter.grad is not None]
            gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
            if self._density is not None:
                keep_largest(gradients, self._density)
            if self._max_value is not None:
                num_cut = torch.stack([(gradient.abs() > self._max_value).sum() for gradient in gradients]).sum()
                cut_share = self._value(num_cut) / sum(gradient.numel() for gradient in gradients)
                nn.utils.clip_grad_value_(parameters, self._max_value)
            before = self._value(nn.utils.clip_grad_norm_(parameters, self._max_norm))
        return GradientNorms(norm, before.clamp(max=self._max_norm), (before > self._max_norm).float(), cut_share)

    def _value(self, scalar: torch.Tensor) -> torch.Tensor:
        """The whole of a scalar, on the device even where gradients are offloaded to the host."""
        return whole(scalar).to(self._device)
