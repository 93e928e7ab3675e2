"""Passes under a magnifying glass: which module or parameter first had a value that is not finite."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from torch import nn

from pipeline.modeling.module_hooks import uncompiled

Hook = Any
PARAMETER = "Parameter"
"""The kind of a finding that is no module."""

PASSED_ON = "which got finite gradients and passed on one that is not"


@dataclass(frozen=True)
class Row:
    """One tensor at a module: what it is (`input`, `output`, `gradient of output`, `gradient of input`, `gradient`),
    and its values.

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
    finite logits, or the `backward` pass of a module, or of a parameter where no module is to blame."""

    phase: str
    name: str
    kind: str
    detail: str

    def __str__(self) -> str:
        backward = "the gradient of " if self.kind == PARAMETER else "the backward pass of "
        where = {"forward": "the output of ", "loss": "", "backward": backward}[self.phase]
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
    with uncompiled(model), _Recorder(model, found, backward=backward) as recorder, torch.enable_grad():
        loss = loss_of()
        if found.finding is None and not bool(loss.isfinite().all()):
            found.finding = Finding("loss", "the loss", "objective", "computed from finite outputs")
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        if backward and loss.requires_grad:
            recorder.is_forward = False
            torch.autograd.grad(loss / divisor, trained, allow_unused=True)
            if found.finding is None:
                found.finding = recorder.backward_finding()
    return found


@dataclass
class _Call:
    """One call of a module. `own_inputs` are its inputs as it gets them, by the `id` of the tensor that was given;
    `output_gradients` says of each gradient that has arrived whether it is finite."""

    name: str
    kind: str
    are_inputs_finite: bool = True
    own_inputs: dict[int, torch.Tensor] = field(default_factory=dict)
    output_gradients: list[bool] = field(default_factory=list)


class _Recorder:
    """While entered, notes what goes in and out of every module, and the gradients.

    In the backward pass a module is to blame when the gradients of its outputs were finite and that of an input was
    not. Tensors have one gradient, the sum over all that use them. So each module is given its inputs under a name of
    its own (a view), whose gradient is what this module alone adds.
    """

    def __init__(self, model: nn.Module, found: Examination, *, backward: bool) -> None:
        self.is_forward = True
        """False in the backward pass, where gradient checkpointing calls modules again."""
        self._model = model
        self._found = found
        self._backward = backward
        self._handles: list[Hook] = []
        self._calls: dict[nn.Module, _Call] = {}
        self._bad_inputs: list[_Call] = []
        self._bad_outputs: list[str] = []
        self._bad_parameters: list[str] = []

    def __enter__(self) -> Self:
        for path, module in self._model.named_modules():
            name = path or type(module).__name__
            self._handles.append(module.register_forward_pre_hook(self._before(name), with_kwargs=True))
            self._handles.append(module.register_forward_hook(self._after))
        for name, parameter in self._model.named_parameters():
            if parameter.requires_grad:
                self._handles.append(parameter.register_hook(self._of_parameter(name)))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        for handle in self._handles:
            handle.remove()

    def backward_finding(self) -> Finding | None:
        """The first module of the backward pass that got finite gradients and passed on one that is not. Gradients
        come out of an inner module before they come out of the one around it. Without such a module, the first
        parameter whose gradient is not finite."""
        for call in self._bad_inputs:
            if call.output_gradients and all(call.output_gradients):
                return Finding("backward", call.name, call.kind, PASSED_ON)
        if not self._bad_parameters:
            return None
        first_seen = f"first seen in the gradient of the output of {self._bad_outputs[0]}" if self._bad_outputs else ""
        return Finding("backward", self._bad_parameters[0], PARAMETER, first_seen)

    def _add(self, name: str, kind: str, what: str, tensor: torch.Tensor) -> bool:
        row = tensor_row(name, kind, what, tensor)
        self._found.rows.append(row)
        return row.nonfinite_share == 0

    def _before(self, name: str) -> Hook:
        def hook(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> Any:
            if not self.is_forward:
                return None
            call = self._calls[module] = _Call(name, type(module).__name__)
            # Masks are minus infinity where nothing is to be seen.
            given = [args, {key: value for key, value in kwargs.items() if "mask" not in key}]
            call.are_inputs_finite = all([self._add(name, call.kind, "input", tensor) for tensor in _tensors(given)])
            return self._renamed(call, module, args), self._renamed(call, module, kwargs)

        return hook

    def _renamed(self, call: _Call, module: nn.Module, value: Any) -> Any:
        """The inputs of a call as tensors of its own, watched for their gradients."""
        if type(value) in (tuple, list):
            return type(value)(self._renamed(call, module, item) for item in value)
        if type(value) is dict:
            return {key: self._renamed(call, module, item) for key, item in value.items()}
        is_watched = isinstance(value, torch.Tensor) and value.requires_grad and value.numel() > 0
        if not (is_watched and self._backward and torch.is_grad_enabled()):
            return value
        if id(value) not in call.own_inputs:
            # What is done in place to a view takes the view out of the graph.
            own = value.clone() if getattr(module, "inplace", False) else value.view_as(value)
            self._handles.append(own.register_hook(self._of_input(call)))
            call.own_inputs[id(value)] = own
        return call.own_inputs[id(value)]

    def _after(self, module: nn.Module, args: Any, output: Any) -> None:
        if not self.is_forward:
            return
        call = self._calls[module]
        finite = [self._add(call.name, call.kind, "output", tensor) for tensor in _tensors(output)]
        if not all(finite) and call.are_inputs_finite and self._found.finding is None:
            self._found.finding = Finding("forward", call.name, call.kind, _broken_weights(module))
        for tensor in _tensors(output):
            if tensor.requires_grad:
                self._handles.append(tensor.register_hook(self._of_output(call)))

    def _of_output(self, call: _Call) -> Hook:
        def hook(gradient: torch.Tensor) -> None:
            is_finite = self._add(call.name, call.kind, "gradient of output", gradient)
            call.output_gradients.append(is_finite)
            if not is_finite:
                self._bad_outputs.append(call.name)

        return hook

    def _of_input(self, call: _Call) -> Hook:
        def hook(gradient: torch.Tensor) -> None:
            if not self._add(call.name, call.kind, "gradient of input", gradient):
                self._bad_inputs.append(call)

        return hook

    def _of_parameter(self, name: str) -> Hook:
        def hook(gradient: torch.Tensor) -> None:
            if not self._add(name, PARAMETER, "gradient", gradient):
                self._bad_parameters.append(name)

        return hook


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
