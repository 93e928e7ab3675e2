"""What stands between the parts of a network, by hooks: what blocks are given, and what they add to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from pipeline.modeling.module_hooks import first_tensor, without_padding
from pipeline.modeling.network_parts import NetworkPart

SUM_TOLERANCE = 1e-4
"""Of a float32 sum, as a share of it."""


@dataclass
class Values:
    """Of one tensor: its root mean square over tokens, and the Euclidean norm of d(objective)/d(tensor), once the
    backward pass has been there."""

    rms: float
    gradient_norm: float | None = None


@dataclass
class InBetween:
    """By the names of parts."""

    given: dict[str, Values] = field(default_factory=dict)
    """What goes into a block."""

    normed: dict[str, Values] = field(default_factory=dict)
    """What a norm makes of an attention's or mlp's output, where one takes just that."""

    times: dict[str, float | None] = field(default_factory=dict)
    """The k of a block that gives what goes in plus k times what its attention and mlp, behind their norms, give; 1 in
    most. None of one that gives something else."""


def rms_of(values: torch.Tensor, tokens: torch.Tensor | None) -> float:
    """Root mean square. `tokens` (B, T) tells padding from tokens."""
    kept, count = without_padding(values.detach(), tokens)
    return float(torch.linalg.vector_norm(kept, dtype=torch.float64) / count.sqrt())


def _times(change: torch.Tensor, added: torch.Tensor, whole: torch.Tensor) -> float | None:
    """The k for which change is k times added, as far as the rounding of the whole lets one see; 1 where it may be."""
    change, added, within = change.double(), added.double(), SUM_TOLERANCE * float(whole.detach().norm())
    best = float((change * added).sum() / added.square().sum().clamp_min(1e-300))
    return next((k for k in (1.0, best) if float((change - k * added).norm()) <= within), None)


@contextmanager
def between_parts(parts: Mapping[str, NetworkPart], tokens: torch.Tensor | None) -> Iterator[InBetween]:
    """Whole once the forward and backward pass in the context are over."""
    found = InBetween()
    outputs: dict[str, torch.Tensor] = {}
    inputs: dict[str, torch.Tensor] = {}

    def keep(into: dict[str, Values], name: str, values: torch.Tensor) -> None:
        own = into[name] = Values(rms_of(values, tokens))

        def receive(gradient: torch.Tensor) -> None:
            own.gradient_norm = float(torch.linalg.vector_norm(gradient, dtype=torch.float64))

        if values.requires_grad:
            values.register_hook(receive)

    def before_block(name: str) -> Any:
        def hook(module: nn.Module, arguments: Any, named: Any) -> None:
            given = first_tensor([one for one in (*arguments, *named.values()) if isinstance(one, torch.Tensor)])
            if given is not None:
                inputs[name] = given
                keep(found.given, name, given)

        return hook

    def after_part(name: str) -> Any:
        def hook(module: nn.Module, arguments: Any, output: Any) -> None:
            if (tensor := first_tensor(output)) is not None:
                outputs[name] = tensor

        return hook

    def after_norm(inner: list[str]) -> Any:
        def hook(module: nn.Module, arguments: Any, output: Any) -> None:
            for name in inner:
                if arguments and outputs.get(name) is arguments[0] and isinstance(output, torch.Tensor):
                    keep(found.normed, name, output)
                    outputs[name] = output

        return hook

    def after_block(name: str, inner: list[str]) -> Any:
        def hook(module: nn.Module, arguments: Any, output: Any) -> None:
            given, whole = inputs.pop(name, None), first_tensor(output)
            added = [outputs.pop(one).detach() for one in inner if one in outputs]
            if given is not None and whole is not None and all(one.shape == given.shape for one in (whole, *added)):
                found.times[name] = _times(whole.detach() - given.detach(), sum(added, torch.zeros_like(given)), whole)

        return hook

    handles = []
    for name, part in parts.items():
        if part.kind == "block":
            inner = [one for one, other in parts.items() if other.block == name]
            handles.append(part.module.register_forward_pre_hook(before_block(name), with_kwargs=True))
            handles.append(part.module.register_forward_hook(after_block(name, inner)))
            norms = [one for one in part.module.modules() if "norm" in type(one).__name__.lower()]
            handles += [norm.register_forward_hook(after_norm(inner)) for norm in norms]
        elif part.block:
            handles.append(part.module.register_forward_hook(after_part(name)))
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
