"""What every module gives in one pass, and the gradient of the loss with respect to it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from pipeline.modeling.inputs import evaluating

Watcher = Callable[[torch.Tensor | None, Any], None]
"""Gets the first tensor that a module is given, and what it gives."""


def _nothing_yet() -> torch.Tensor:
    return torch.zeros((), dtype=torch.float64)


@dataclass
class ModuleFigures:
    """Of a module's output, over all of its calls in one pass. Tensors are float64, of no dimension, on the device."""

    kind: str = ""
    """Its class."""

    shape: tuple[int, ...] = ()
    """Of the output of its first call."""

    num_values: torch.Tensor = field(default_factory=_nothing_yet)
    squares: torch.Tensor = field(default_factory=_nothing_yet)
    """Sum of the output's squares."""

    largest: torch.Tensor = field(default_factory=_nothing_yet)
    """Largest absolute value of the output."""

    gradient_squares: torch.Tensor | None = None
    """Sum of the squares of d(loss)/d(output). None where the loss does not depend on it."""

    @property
    def rms(self) -> torch.Tensor:
        """Root mean square of the output."""
        return (self.squares / self.num_values).sqrt()

    def add_gradient(self, gradient: torch.Tensor) -> None:
        """Add d(loss)/d(output) of a call."""
        squares = _squares(gradient, torch.float64)  # small ones have squares that float32 does not hold
        before = self.gradient_squares
        self.gradient_squares = squares if before is None else before + squares

    @property
    def gradient_norm(self) -> torch.Tensor | None:
        """Euclidean norm of d(loss)/d(output)."""
        return None if self.gradient_squares is None else self.gradient_squares.sqrt()


@dataclass(frozen=True)
class ModulePass:
    """One forward and backward pass. `modules` are in the order in which they first gave something."""

    loss: torch.Tensor
    modules: dict[str, ModuleFigures]
    parameter_gradients: tuple[torch.Tensor | None, ...]


def record_modules(
    model: nn.Module,
    modules: Mapping[str, nn.Module],
    loss_of: Callable[[], torch.Tensor],
    parameters: Sequence[nn.Parameter] = (),
    *,
    watchers: Mapping[nn.Module, Watcher] | None = None,
    tokens: torch.Tensor | None = None,
    backward: bool = True,
    recomputed: Collection[nn.Module] = (),
) -> ModulePass:
    """Run `loss_of`, which calls the model and returns a loss, and measure the outputs of some of its modules.

    Of a module that gives several tensors the first is measured. One that is called several times, such as an
    activation that experts share, is measured over all calls. Also gives the gradients of the loss with respect to
    `parameters`. Each of the `watchers` is called after its module. `tokens` (B, T) tells padding from tokens: what is
    given for padding does not count. Without the backward pass there are no gradients, and less memory is used. The
    `recomputed` modules keep nothing but what they are given, and compute again in the backward pass.

    The pass is without dropout and without compiled code. It changes nothing: no parameter's `grad` is touched, and
    neither DistributedDataParallel nor FSDP hears of it (call the plain model, and all processes of a sharded one).
    Nothing is copied to the host.
    """
    figures: dict[str, ModuleFigures] = {}
    outputs: list[GradientEdge] = []
    is_forward = True  # not a module that computes again

    def measure(name: str) -> Any:
        def hook(module: nn.Module, arguments: Any, output: Any) -> None:
            tensor = first_tensor(output)
            if is_forward and tensor is not None and tensor.is_floating_point() and tensor.numel():
                own = figures.setdefault(name, ModuleFigures(type(module).__name__, tuple(tensor.shape)))
                _add(own, tensor.detach(), tokens)
                if tensor.requires_grad:
                    outputs.append(get_gradient_edge(tensor))
                    tensor.register_hook(own.add_gradient)

        return hook

    def watch(watcher: Watcher) -> Any:
        def hook(module: nn.Module, arguments: Any, named: Any, output: Any) -> None:
            given = first_tensor([one for one in (*arguments, *named.values()) if isinstance(one, torch.Tensor)])
            if is_forward:
                with torch.no_grad():
                    watcher(given, output)

        return hook

    handles = [module.register_forward_hook(measure(name)) for name, module in modules.items()]
    for module, watcher in (watchers or {}).items():
        handles.append(module.register_forward_hook(watch(watcher), with_kwargs=True))
    gradients: Sequence[torch.Tensor | None] = ()
    try:
        with uncompiled(model), recomputing(recomputed), evaluating(model), torch.set_grad_enabled(backward):
            loss = loss_of()
            is_forward = False
            wanted: list[Any] = [*parameters, *_earliest(outputs)]
            if wanted and loss.requires_grad:
                gradients = torch.autograd.grad(loss, wanted, allow_unused=True)
    finally:
        for handle in handles:
            handle.remove()
    return ModulePass(loss.detach(), figures, tuple(gradients[: len(parameters)]))


def _earliest(outputs: Sequence[GradientEdge]) -> list[GradientEdge]:
    """Those from which a backward pass comes to no other one: a pass to these comes by all of them, and keeps no
    gradient of the others."""
    nodes = {output.node for output in outputs}

    def comes_to_another(start: Any) -> bool:
        seen, waiting = {start}, [start]
        while waiting:
            for node, _ in waiting.pop().next_functions:
                if node in nodes and node is not start:
                    return True
                if node is not None and node not in seen:
                    seen.add(node)
                    waiting.append(node)
        return False

    return [output for output in outputs if not comes_to_another(output.node)]


@contextmanager
def recomputing(modules: Collection[nn.Module]) -> Iterator[None]:
    """Let modules keep nothing of a forward pass but what they are given, and compute again in the backward pass (Chen
    et al. 2016, arXiv 1604.06174), in evaluation mode too. Nothing in them may be drawn at random."""
    own = [(module, module.__dict__.get("forward")) for module in dict.fromkeys(modules)]  # once if under two names
    for module, _ in own:
        module.forward = partial(checkpoint, module.forward, use_reentrant=False, preserve_rng_state=False)
    try:
        yield
    finally:
        for module, forward in own:
            del module.forward
            if forward is not None:
                module.forward = forward


def first_tensor(output: Any) -> torch.Tensor | None:
    """What a module gives: a tensor, or the first of several. None where it gives none."""
    if isinstance(output, Mapping):
        output = tuple(output.values())
    if isinstance(output, (list, tuple)):
        output = output[0] if output else None
    return output if isinstance(output, torch.Tensor) else None


@contextmanager
def uncompiled(model: nn.Module) -> Iterator[None]:
    """Without the compiled code of modules, which hooks cannot look into."""
    compiled: list[Any] = [m for m in model.modules() if getattr(m, "_compiled_call_impl", None) is not None]
    calls = [module._compiled_call_impl for module in compiled]
    for module in compiled:
        module._compiled_call_impl = None
    try:
        yield
    finally:
        for module, call in zip(compiled, calls, strict=True):
            module._compiled_call_impl = call


def _add(figures: ModuleFigures, values: torch.Tensor, tokens: torch.Tensor | None) -> None:
    values, count = without_padding(values, tokens)
    figures.num_values = figures.num_values.to(values.device) + count
    figures.squares = figures.squares.to(values.device) + _squares(values, torch.float32)
    low, high = torch.aminmax(values)
    figures.largest = torch.maximum(figures.largest.to(values.device), torch.maximum(high, -low).double())


def without_padding(values: torch.Tensor, tokens: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
    """The values with zeros for padding, and how many are none; of values that do not belong to the tokens (B, T), one
    by one, all count."""
    all_of_them = torch.full((), values.numel(), dtype=torch.float64, device=values.device)
    if tokens is None:
        return values, all_of_them
    if values.shape[:2] == tokens.shape:
        is_token = tokens
    elif values.ndim == 3 and len(values) == len(tokens) and values.shape[1] > tokens.shape[1]:
        is_token = tokens_among(tokens, values.shape[1])
    elif values.shape[:1] == (tokens.numel(),):
        is_token = tokens.flatten()
    else:
        return values, all_of_them
    is_token = is_token.view(*is_token.shape, *[1] * (values.ndim - is_token.ndim))
    return values.where(is_token, 0.0), is_token.expand_as(values).sum(dtype=torch.float64)


def tokens_among(tokens: torch.Tensor, length: int) -> torch.Tensor:
    """`tokens` (B, T) of a model that computes (B, length): before those of a row are those of a learned prompt."""
    return functional.pad(tokens, (length - tokens.shape[1], 0), value=True)


def _squares(values: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Their sum, added up in a precision."""
    return torch.linalg.vector_norm(values, dtype=dtype).double().square()
