"""Norms of every matrix's gradient, weights and update, measured on the device with few kernels, and histograms."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor

from pipeline.modeling.layer_names import matrix_name
from pipeline.modeling.sharding import largest_over_shards, own_parts, sum_over_shards
from pipeline.telemetry.histograms import (
    NUM_BUCKETS,
    NUM_SHOWN,
    Buckets,
    bounds_of,
    buckets_between,
    buckets_by_size,
    count_between,
    count_by_size,
)
from pipeline.telemetry.matrix_figures import MATRICES

MOST_MATRICES = 2000
"""Of a model with more matrices and vectors, vectors such as biases and the weights of norms are left out."""

DecayOf = Callable[[Mapping[str, Any]], float | None]
"""The part of a weight that decay takes away, by the optimizer's group: 0 where there is none, None where it is not
known."""


@dataclass(frozen=True)
class Before:
    """Of this process's parts: norms of the gradients, shape (matrices,), copies of the weights, and the entries of
    gradients in buckets, shape (matrices, NUM_BUCKETS): empty where nobody asked for histograms."""

    gradients: torch.Tensor
    weights: list[torch.Tensor]
    counts: torch.Tensor


@dataclass(frozen=True)
class Measured:
    """Norms around one step: of each matrix's gradient, weights, update and, as far as it is known, update without
    decay, one after the other in one dimension; the entries in buckets and bounds that `histograms` reads, in one
    dimension too, empty where nobody asked for them; the part of each matrix that decayed apart from the gradient, and
    the part that the decay in the gradient takes in all."""

    norms: torch.Tensor
    counts: torch.Tensor
    decays: list[float | None]
    coupled: list[float | None]


class MatrixStatistics:
    """Measures the trainable parameters of a model around one optimizer step: `before` it, and `after` it.

    Figures of sharded parameters are those of the whole ones. Nothing is copied to the host, and the step changes by
    no bit. The snapshot between the two calls costs one copy of the weights, on measured steps only.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        decay_of: DecayOf,
        coupled_of: DecayOf = lambda group: None,
    ) -> None:
        prefix = getattr(model, "base_model_prefix", "")
        named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
        if len(named) > MOST_MATRICES:
            named = [(name, parameter) for name, parameter in named if parameter.ndim >= 2] or named
        self.names = [matrix_name(name, prefix) for name, _ in named]
        self._parameters = [parameter for _, parameter in named]
        self._optimizer, self._decay_of, self._coupled_of = optimizer, decay_of, coupled_of

    @torch.no_grad()
    def before(self, with_histograms: bool = False) -> Before:
        """What `after` compares with. Call before clipping. No process waits for another."""
        gradients = [parameter.grad for parameter in self._parameters if parameter.grad is not None]
        found = iter(_norms(own_parts(gradients)))
        zero = torch.zeros(1, device=own_parts(self._parameters[:1])[0].device)
        norms = [zero[0] if parameter.grad is None else next(found) for parameter in self._parameters]
        weights, counts = own_parts(self._parameters), zero[:0]
        if with_histograms:
            found = iter(own_parts(gradients))
            parts = [zero[:0] if parameter.grad is None else next(found) for parameter in self._parameters]
            counts = count_by_size(parts)
        return Before(torch.stack(norms), [part.clone() for part in weights], counts)

    @torch.no_grad()
    def after(self, before: Before) -> Measured:
        """The norms of the step between `before` and now. The weights' are those before it. All processes call it.

        With D the update and c the part of the weights W that decays, the update without decay is D + cW, which is
        (1 - c) D + c (W + D): no third copy of the weights is needed. `before` is used up.
        """
        changes, weights = before.weights, own_parts(self._parameters)
        counts = self._counts(before) if before.counts.numel() else before.counts
        norms = [before.gradients, torch.stack(_norms(changes))]
        torch._foreach_sub_(changes, weights)
        norms.append(torch.stack(_norms(changes)))
        decays, coupled = self._by_matrix(self._decay_of), self._by_matrix(self._coupled_of)
        for decay in sorted({decay for decay in decays if decay}):
            own = [index for index, found in enumerate(decays) if found == decay]
            decayed = [changes[index] for index in own]
            torch._foreach_neg_(decayed)
            torch._foreach_lerp_(decayed, [weights[index] for index in own], decay)
        if any(decays):
            norms.append(torch.stack(_norms(changes)))
        return Measured(self._of_whole(torch.stack(norms)).flatten(), counts, decays, coupled)

    def tags(self, values: list[float], measured: Measured) -> dict[str, float]:
        """`matrices/<name>/<figure>` -> value, from the `norms` of `Measured` on the host; nothing where they are not
        all finite. A step whose decay momentum carries on has no `step_norm`: its update is of many steps' decays."""
        if not all(map(math.isfinite, values)):
            return {}
        count = len(self.names)
        gradients, weights, updates, steps = (values[start : start + count] for start in range(0, 4 * count, count))
        tags: dict[str, float] = {}
        parts = zip(self.names, measured.decays, measured.coupled, strict=True)
        for index, (name, decay, coupled) in enumerate(parts):
            figures = {"grad_norm": gradients[index], "weight_norm": weights[index], "update_norm": updates[index]}
            if decay is not None:
                figures["step_norm"] = steps[index] if steps else updates[index]
                figures["decay_norm"] = decay * weights[index]
            elif coupled is not None:
                figures["decay_norm"] = coupled * weights[index]
            tags |= {f"{MATRICES}{name}/{figure}": value for figure, value in figures.items()}
        return tags

    def histograms(self, counts: list[float]) -> dict[str, Buckets]:
        """The buckets of each matrix's weights before the step and of its gradient before clipping, by
        `matrices/<name>/weights` and `/gradients`, from the `counts` of `Measured` on the host."""
        if not counts:
            return {}
        count = len(self.names)
        ends = accumulate((count, count, count * NUM_SHOWN), initial=0)
        starts, highs, between, by_size = (counts[start:] for start in ends)
        found: dict[str, Buckets] = {}
        for index, name in enumerate(self.names):
            own = between[index * NUM_SHOWN : (index + 1) * NUM_SHOWN]
            found[f"{MATRICES}{name}/weights"] = buckets_between(-starts[index], highs[index], own)
            own = by_size[index * NUM_BUCKETS : (index + 1) * NUM_BUCKETS]
            found[f"{MATRICES}{name}/gradients"] = buckets_by_size(own)
        return {tag: buckets for tag, buckets in found.items() if buckets}

    def _counts(self, before: Before) -> torch.Tensor:
        """The bounds of the weights, their entries between them, and those of the gradients by size."""
        bounds = largest_over_shards(bounds_of(before.weights), self._parameters)
        counts = [count_between(before.weights, bounds).flatten(), before.counts.flatten()]
        return torch.cat([bounds.flatten(), sum_over_shards(torch.cat(counts), self._parameters)])

    def _by_matrix(self, decay_of: DecayOf) -> list[float | None]:
        """Of each matrix the part that the last step took away."""
        by_id = {
            id(parameter): decay_of(group) for group in self._optimizer.param_groups for parameter in group["params"]
        }
        return [by_id[id(parameter)] for parameter in self._parameters]

    def _of_whole(self, norms: torch.Tensor) -> torch.Tensor:
        """Norms of whole matrices from those of the parts that this process holds."""
        if not any(isinstance(parameter, DTensor) for parameter in self._parameters):
            return norms
        squares = norms.double().square()  # a float's square may be too small or too large for a float
        return sum_over_shards(squares, self._parameters).sqrt().float()


def _norms(tensors: list[torch.Tensor]) -> list[torch.Tensor]:
    return list(torch._foreach_norm(tensors, dtype=torch.float32)) if tensors else []
