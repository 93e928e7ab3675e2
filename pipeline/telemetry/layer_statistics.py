"""Norms of every layer's gradient, weights and update, measured on the device with few kernels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from pipeline.modeling.parameters import layer_of
from pipeline.modeling.sharding import own_parts, sum_over_shards

QUANTITIES = ("grad_norm", "param_norm", "update_ratio")


class LayerStatistics:
    """Measures the layers of a model around one optimizer step: `before` it, and `after` it.

    Nothing is copied to the host: results stay tensors until `tags` is asked for them. The snapshot between the
    two calls costs one copy of the weights, on measured steps only.
    """

    def __init__(self, model: nn.Module) -> None:
        prefix = getattr(model, "base_model_prefix", "")
        named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
        layers = [layer_of(name, prefix) for name, _ in named]
        self.layers = list(dict.fromkeys(layers))
        self._parameters = [parameter for _, parameter in named]
        positions = [self.layers.index(layer) for layer in layers]
        self._positions = torch.tensor(positions, device=self._parameters[0].device)

    @torch.no_grad()
    def before(self) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Gradient norms by layer, shape (layers,), and a copy of the weights. Call before clipping."""
        present = [index for index, parameter in enumerate(self._parameters) if parameter.grad is not None]
        gradients = [self._parameters[index].grad for index in present]
        norms = self._by_layer([gradient for gradient in gradients if gradient is not None], self._positions[present])
        return norms, [parameter.clone() for parameter in self._parameters]

    @torch.no_grad()
    def after(self, before: tuple[torch.Tensor, list[torch.Tensor]]) -> torch.Tensor:
        """The three QUANTITIES by layer, shape (3, layers); `param_norm` is of the weights before the update.

        The update ratio is ||weights after - weights before|| / ||weights before||, zero for zero weights.
        """
        gradient_norms, weights = before
        parameter_norms = self._by_layer(weights, self._positions)
        torch._foreach_sub_(weights, list(self._parameters))
        update_norms = self._by_layer(weights, self._positions)
        ratios = torch.where(parameter_norms > 0, update_norms / parameter_norms, 0.0)
        return torch.stack([gradient_norms, parameter_norms, ratios])

    def tags(self, measured: torch.Tensor) -> dict[str, float]:
        """`layers/<layer>/<quantity>` -> value; this copies to the host."""
        rows = zip(QUANTITIES, measured.tolist(), strict=True)
        return {
            f"layers/{layer}/{quantity}": value
            for quantity, row in rows
            for layer, value in zip(self.layers, row, strict=True)
        }

    def _by_layer(self, tensors: Sequence[torch.Tensor], positions: torch.Tensor) -> torch.Tensor:
        """Euclidean norm of each layer's tensors together, whole or sharded."""
        squares = torch.stack(torch._foreach_norm(own_parts(tensors), dtype=torch.float32)).square()
        sums = squares.new_zeros(len(self.layers)).index_add_(0, positions, squares)
        return sum_over_shards(sums, tensors).sqrt()
