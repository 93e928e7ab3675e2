"""Gradients without autograd: two losses in float64, with one weight moved up and down."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from pipeline.modeling.inputs import evaluating

WIDTH = 1e-5
"""By which a weight is moved. In float64 the loss is rounded to about 1e-15, so this tells the gradient to about 1e-10,
and the third derivative enters with the square of it."""


@dataclass(frozen=True)
class CentralDifference:
    """(loss_up - loss_down) / (2 width) is the gradient up to terms in the square of the width."""

    loss_up: float
    loss_down: float
    width: float

    @property
    def gradient(self) -> float:
        return (self.loss_up - self.loss_down) / (2 * self.width)


def central_differences(
    model: nn.Module, loss_of: Callable[[], torch.Tensor], entries: Sequence[tuple[nn.Parameter, int]]
) -> list[CentralDifference]:
    """Of the loss with respect to entries, each a parameter and a place in it when it is flat.

    The model must be in float64; what it casts to float32 on its way, as norms do, stays in float64. It is left as it
    was. Raises RuntimeError where one of its operations knows no float64.
    """
    found = []
    with evaluating(model), _Float64():
        for parameter, place in entries:
            values = parameter.data.view(-1)
            before = values[place].item()
            losses = []
            for moved in (before + WIDTH, before - WIDTH):
                values[place] = moved
                losses.append(loss_of().item())
            values[place] = before
            found.append(CentralDifference(losses[0], losses[1], WIDTH))
    return found


class _Float64(TorchDispatchMode):
    """What is cast to a shorter floating type is cast to float64. Not for passes with autograd."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if kwargs.get("dtype") in (torch.float32, torch.bfloat16, torch.float16):
            kwargs["dtype"] = torch.float64
        return func(*args, **kwargs)
