"""An architecture's own initialization, one parameter at a time.

transformers' `_init_weights` sets the parameters of a module, sometimes those of a module below it as well (GPT-2),
from the global random state. Here a skeleton of the model on the meta device tells which calls touch which
parameter; then each parameter alone is made real, and those calls are repeated with the parameter's own seed. What
comes out depends on the seed and the parameter's name, not on what else is initialized, where, or in which order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.initialization import no_init_weights

from pipeline.modeling.heads import Head
from pipeline.modeling.seeded_weights import seed_of

RANDOM = ("normal_", "uniform_", "bernoulli_", "exponential_", "cauchy_", "log_normal_")


@dataclass
class _Touched:
    """What happens to one parameter: by which calls, and whether anything is drawn."""

    calls: list[Callable[[], Any]] = field(default_factory=list)
    is_drawn: bool = False
    is_partly_known: bool = False


class DefaultInitialization:
    """The values that an architecture gives its parameters, by name."""

    def __init__(self, config: PreTrainedConfig, head: Head) -> None:
        self._config, self._head = config, head
        with torch.device("meta"), no_init_weights():
            self._skeleton: PreTrainedModel = head.auto_class.from_config(config, dtype=torch.float32)
        self._owners: dict[int, list[tuple[dict[str, nn.Parameter | None], str]]] = {}
        self._parameters: dict[str, nn.Parameter] = {}
        for prefix, module in self._skeleton.named_modules():
            for name, parameter in module.named_parameters(recurse=False):
                self._owners.setdefault(_storage(parameter), []).append((module._parameters, name))
                self._parameters[f"{prefix}.{name}".lstrip(".")] = parameter
        self._touched = self._record()
        self._models: dict[int, PreTrainedModel] = {}

    def is_drawn(self, name: str) -> bool:
        """Whether the architecture draws this parameter, rather than setting it to a constant."""
        return self._touched_of(name).is_drawn

    def module_of(self, name: str) -> nn.Module:
        """The skeleton's module that holds a parameter."""
        return self._skeleton.get_submodule(name.rpartition(".")[0])

    @torch.no_grad()
    def value(self, name: str, seed: int) -> torch.Tensor:
        """The whole tensor of one parameter, on the CPU."""
        touched = self._touched_of(name)
        if not touched.calls or touched.is_partly_known:
            # Set where the module is made, or by a call that needs more than this one tensor.
            return self._constructed(seed)[name]
        meta = self._parameters[name]
        real = nn.Parameter(torch.empty(meta.shape), requires_grad=False)
        owners = self._owners[_storage(meta)]
        for held, own_name in owners:
            held[own_name] = real
        try:
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(seed_of(seed, name))
                for call in touched.calls:
                    call()
        except (RuntimeError, NotImplementedError):
            return self._constructed(seed)[name]  # it is made from a neighbour, which has no values here
        finally:
            for held, own_name in owners:
                held[own_name] = meta
        return real.detach()

    def _touched_of(self, name: str) -> _Touched:
        return self._touched.get(_storage(self._parameters[name]), _Touched())

    def _record(self) -> dict[int, _Touched]:
        touched: dict[int, _Touched] = {}
        for call in _calls(self._skeleton, self._skeleton):
            watch, failed = _Watch(), False
            try:
                with torch.no_grad(), torch.random.fork_rng(devices=[]), watch:
                    call()
            except (RuntimeError, NotImplementedError):
                failed = True  # it reads values, which nothing on the meta device has
            for storage, is_drawn in watch.written.items():
                entry = touched.setdefault(storage, _Touched())
                entry.calls.append(call)
                entry.is_drawn |= is_drawn
                entry.is_partly_known |= failed
        return touched

    def _constructed(self, seed: int) -> dict[str, torch.Tensor]:
        if seed not in self._models:
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(seed_of(seed, ""))
                self._models[seed] = self._head.auto_class.from_config(self._config, dtype=torch.float32)
        return dict(self._models[seed].named_parameters(remove_duplicate=False))


class _Watch(TorchDispatchMode):
    """Notes which storages are written to, and whether with random numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.written: dict[int, bool] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for argument, value in zip(func._schema.arguments, args, strict=False):
            if argument.alias_info is not None and argument.alias_info.is_write and isinstance(value, torch.Tensor):
                storage = _storage(value)
                is_drawn = func._schema.name.partition("::")[2] in RANDOM
                self.written[storage] = self.written.get(storage, False) or is_drawn
        return func(*args, **(kwargs or {}))


def _calls(module: nn.Module, owner: PreTrainedModel) -> Iterator[Callable[[], Any]]:
    """transformers' calls of `_init_weights`, in its order: children first, each by the model that it is part of."""
    for child in module.children():
        yield from _calls(child, child if isinstance(child, PreTrainedModel) else owner)
    yield lambda: owner._init_weights(module)


def _storage(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage()._cdata
