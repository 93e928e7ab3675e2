"""Passes under a magnifying glass: which module or parameter first had a value that is not finite."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

Hook = Any


@dataclass(frozen=True)
class Row:
    """One tensor at a module: what it is (`input`, `output`, `gradient of output`, `gradient`), and its values.

    `low`, `high` and `mean` are of its finite values, None where there are none.
    """

    name: str
    kind: str
    what: str
    shape: tuple[int, ...]
    low: float | None
    high: float | None
    mean: float | None
    nonfinite_share: float


@dataclass(frozen=True)
class Finding:
    """Where the first value that is not finite came from: the `forward` pass of a module, the `loss` computed from
    finite logits, or the gradient of a parameter in the `backward` pass."""

    phase: str
    name: str
    kind: str
    detail: str

    def __str__(self) -> str:
        where = {"forward": "the output of ", "loss": "", "backward": "the gradient of "}[self.phase]
        return f"{where}{self.name} ({self.kind}){f', {self.detail}' if self.detail else ''}"


@dataclass
class Examination:
    """What was seen of one micro-batch: a row for each tensor, in the order of computation."""

    rows: list[Row] = field(default_factory=list)
    finding: Finding | None = None


def examine(
    model: nn.Module, loss_of: Callable[[], torch.Tensor], *, backward: bool = True, divisor: float = 1.0
) -> Examination:
    """Run `loss_of`, which must call the model, and take the gradient of its result divided by `divisor`.

    Leaves weights, their gradients and compiled code as they were; draws random numbers like any pass. Each tensor is
    read from the device, so it is slow. A pass that is finite has no finding.
    """
    found = Examination()
    with _eager(model), _recording(model, found) as backward_begins, torch.enable_grad():
        loss = loss_of()
        if found.finding is None and not bool(loss.isfinite().all()):
            found.finding = Finding("loss", "the loss", "objective", "computed from finite outputs")
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        if backward and loss.requires_grad:
            backward_begins()
            torch.autograd.grad(loss / divisor, trained, allow_unused=True)
    return found


@contextmanager
def _recording(model: nn.Module, found: Examination) -> Iterator[Callable[[], None]]:
    """Note what goes in and out of every module, and the gradients, while the block runs."""
    handles: list[Hook] = []
    is_forward = True
    inputs_finite: dict[int, bool] = {}
    bad_gradient: list[str] = []

    def add(name: str, module: nn.Module, what: str, tensor: torch.Tensor) -> bool:
        row = tensor_row(name, type(module).__name__, what, tensor)
        found.rows.append(row)
        return row.nonfinite_share == 0

    def before(name: str, module: nn.Module) -> Hook:
        def hook(_: nn.Module, args: Any, kwargs: Mapping[str, Any]) -> None:
            if is_forward:
                # Masks are minus infinity where nothing is to be seen.
                given = [args, {key: value for key, value in kwargs.items() if "mask" not in key}]
                finite = [add(name, module, "input", tensor) for tensor in _tensors(given)]
                inputs_finite[id(module)] = all(finite)

        return hook

    def after(name: str, module: nn.Module) -> Hook:
        def hook(_: nn.Module, args: Any, output: Any) -> None:
            if not is_forward:
                return
            finite = [add(name, module, "output", tensor) for tensor in _tensors(output)]
            if not all(finite) and inputs_finite[id(module)] and found.finding is None:
                found.finding = Finding("forward", name, type(module).__name__, _broken_weights(module))
            for tensor in _tensors(output):
                if tensor.requires_grad:
                    handles.append(tensor.register_hook(of_output(name, module)))

        return hook

    def of_output(name: str, module: nn.Module) -> Hook:
        def hook(gradient: torch.Tensor) -> None:
            if not add(name, module, "gradient of output", gradient):
                bad_gradient.append(name)

        return hook

    def of_parameter(name: str, parameter: nn.Parameter) -> Hook:
        def hook(gradient: torch.Tensor) -> None:
            row = tensor_row(name, "Parameter", "gradient", gradient)
            found.rows.append(row)
            if row.nonfinite_share and found.finding is None:
                first = f"first seen in the gradient of the output of {bad_gradient[0]}" if bad_gradient else ""
                found.finding = Finding("backward", name, "Parameter", first)

        return hook

    def backward_begins() -> None:
        nonlocal is_forward
        # Gradient checkpointing calls modules again in the backward pass.
        is_forward = False

    for path, module in model.named_modules():
        name = path or type(model).__name__
        handles.append(module.register_forward_pre_hook(before(name, module), with_kwargs=True))
        handles.append(module.register_forward_hook(after(name, module)))
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            handles.append(parameter.register_hook(of_parameter(name, parameter)))
    try:
        yield backward_begins
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def tensor_row(name: str, kind: str, what: str, tensor: torch.Tensor) -> Row:
    """A tensor's row."""
    values = tensor.detach().double() if not tensor.is_floating_point() else tensor.detach().float()
    finite = values[values.isfinite()]
    low = high = mean = None
    if finite.numel():
        low, high, mean = torch.stack([finite.min(), finite.max(), finite.mean()]).tolist()
    share = 1 - finite.numel() / max(1, values.numel())
    return Row(name, kind, what, tuple(tensor.shape), low, high, mean, share)


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    """The tensors in a tensor, or in a list or mapping of such, however deep."""
    if isinstance(value, torch.Tensor):
        if value.numel():
            yield value
    elif isinstance(value, Mapping):
        yield from _tensors(list(value.values()))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)


def _broken_weights(module: nn.Module) -> str:
    """Which of a module's own weights hold values that are not finite."""
    counts = {
        name: int((~parameter.detach().isfinite()).sum()) for name, parameter in module.named_parameters(recurse=False)
    }
    return ", ".join(
        f"whose {name} holds {count} values that are not finite" for name, count in counts.items() if count
    )


@contextmanager
def _eager(model: nn.Module) -> Iterator[None]:
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
