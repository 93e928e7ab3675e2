"""Experts of mixtures under autocast."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import nn
from torch.func import functional_call
from torch.nn.utils.parametrize import is_parametrized


def cast_experts(model: nn.Module) -> None:
    """Let transformers' stacks of experts compute in autocast's precision, where there is one.

    Autocast knows linear layers but not grouped products, which would compute in the float32 of the weights.
    """
    for module in model.modules():
        if hasattr(module, "_is_expert_parallel"):  # set by transformers' decorator of experts
            module.forward = partial(_cast_and_call, module, module.forward)


def _cast_and_call(module: nn.Module, forward: Any, hidden_states: torch.Tensor, *routing: torch.Tensor) -> Any:
    device = hidden_states.device.type
    # An adapter's sum of weights is in the precision that the adapter wants.
    if device == "meta" or not torch.is_autocast_enabled(device) or is_parametrized(module):
        return forward(hidden_states, *routing)
    dtype = torch.get_autocast_dtype(device)
    weights = {name: weight for name, weight in module.named_parameters() if weight.is_floating_point()}
    hidden_states = hidden_states.to(dtype)
    if all(weight.dtype == dtype for weight in weights.values()):
        return forward(hidden_states, *routing)
    cast = {name: weight.to(dtype) for name, weight in weights.items()}
    return functional_call(module, cast, (hidden_states, *routing))  # comes back here with cast weights
