"""Updates of a part of the weights: frozen parameters, and gradients of which only the largest entries stay."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from pipeline.errors import ConfigError
from pipeline.modeling.sharding import own_parts, whole
from pipeline.training.optimization.name_patterns import Finder


def freeze(model: nn.Module, patterns: list[str]) -> None:
    """Stop training the parameters in whose name one of the regular expressions is found.

    Raises ConfigError for an expression that is found in no name, and when nothing is left to train.
    """
    names = [name for name, _ in model.named_parameters()]
    finders = [Finder(f"train.freeze.{index}", pattern) for index, pattern in enumerate(patterns)]
    for index, finder in enumerate(finders):
        if not finder.finds_any(names):
            raise ConfigError(
                f"train.freeze.{index}: {patterns[index]!r} is in the name of no parameter; names are like {names[0]} "
                f"and {names[-1]}"
            )
    for name, parameter in model.named_parameters():
        if any(finder.finds(name) for finder in finders):
            parameter.requires_grad_(False)
    if patterns and not any(parameter.requires_grad for parameter in model.parameters()):
        raise ConfigError("train.freeze leaves no parameter to train; narrow its patterns")


@torch.no_grad()
def keep_largest(gradients: Iterable[torch.Tensor], density: float) -> None:
    """Set all but the largest entries of each gradient to 0 in place: of n entries ceil(density * n) stay, and those
    that are as large as the smallest of them.

    Deterministic, for the bound is a value and not a position, and without a copy to the host. Entries that are not
    numbers stay, so that they are noticed. Top-k sparsification (Aji & Heafield 2017), without the memory of what was
    dropped.
    """
    for gradient in gradients:
        sizes = whole(gradient).abs()
        kept = math.ceil(density * sizes.numel())
        bound = sizes.flatten().topk(kept, sorted=False).values.min()
        [own] = own_parts([gradient])
        own.masked_fill_(own.abs() < bound, 0.0)
