"""Matrices in four or eight bits, as bitsandbytes keeps them, on tensors without data."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

BITS_PER_WEIGHT = {"nf4": 4.127, "fp4": 4.127, "int8": 8.0}
"""Scales included: one of 8 bits for each 64 weights of 4 bits, and one of 32 bits for each 256 of those (double
quantization, Dettmers et al. 2023, QLoRA). The one scale for a row of weights in 8 bits is next to nothing."""


def quantize(model: PreTrainedModel, kind: str) -> None:
    """Replace every matrix but the head's, as transformers does, and keep the rest in float32, as peft does."""
    head = model.get_output_embeddings()
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Linear) and child is not head:
                setattr(module, name, _QuantizedLinear(child, BITS_PER_WEIGHT[kind] / 8))
    for parameter in model.parameters():
        if parameter.is_floating_point():
            parameter.data = parameter.data.float()


class _QuantizedLinear(nn.Linear):
    """Takes as much memory as a layer of bitsandbytes."""

    def __init__(self, layer: nn.Linear, bytes_per_weight: float) -> None:
        super().__init__(layer.in_features, layer.out_features, bias=layer.bias is not None)
        packed = torch.empty(round(layer.weight.numel() * bytes_per_weight), dtype=torch.uint8)
        self.weight = nn.Parameter(packed, requires_grad=False)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """In bfloat16, by weights that are unpacked for this product and no longer."""
        output = _UnpackedProduct.apply(inputs.to(torch.bfloat16), self.weight, self.out_features)
        output = output if self.bias is None else output + self.bias
        return output.to(inputs.dtype)


class _UnpackedProduct(torch.autograd.Function):
    """A product with weights that are unpacked once more for the backward pass."""

    @staticmethod
    def forward(ctx: Any, inputs: torch.Tensor, packed: torch.Tensor, num_outputs: int) -> torch.Tensor:
        ctx.shape = (num_outputs, inputs.shape[-1])
        return inputs @ inputs.new_empty(ctx.shape).T

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return gradient @ gradient.new_empty(ctx.shape), None, None
