"""An exponential moving average of the weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


class WeightAverage:
    """The average of a model's trainable weights over the steps, in float32 beside them; of none where `decay` is None.

    average = d * average + (1 - d) * weights, with d = min(decay, (1 + t) / (10 + t)) after step t. The smaller d of
    the first steps forgets the untrained weights (as TensorFlow's ExponentialMovingAverage).
    """

    def __init__(self, model: nn.Module, decay: float | None) -> None:
        self._decay = decay or 0.0
        self._weights = {name: weight for name, weight in model.named_parameters() if weight.requires_grad and decay}
        self.tensors = {name: weight.detach().float().clone() for name, weight in self._weights.items()}
        """Averages by name of the parameter."""

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after update number `step`, counted from 1. Stays on the device."""
        share = 1 - min(self._decay, (1 + step) / (10 + step))
        weights = [weight.float() for weight in self._weights.values()]
        if weights:
            torch._foreach_lerp_(list(self.tensors.values()), weights, share)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the model's weights and their averages, in place."""
        for name, weight in self._weights.items():
            kept = weight.clone()
            weight.copy_(self.tensors[name])
            self.tensors[name].copy_(kept)

    @contextmanager
    def in_place_of_weights(self) -> Iterator[None]:
        """Let the model have the averaged weights while the block runs."""
        self.swap()
        try:
            yield
        finally:
            self.swap()
