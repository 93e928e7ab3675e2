"""Everything that a training needs to go on exactly: captured into a checkpoint folder and restored from it.

Tensors are in safetensors, the rest in JSON; nothing here unpickles.
"""

from __future__ import annotations

import json
import random
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from pipeline.atomic import write_json
from pipeline.modeling.weights import storage_errors
from pipeline.training.interval import Interval

MODEL, OPTIMIZER, STATE = "model.safetensors", "optimizer.safetensors", "state.json"
INTERVAL = "interval"


@dataclass
class Counters:
    """Where a training is. `seconds` counts all processes that worked on it."""

    step: int = 0
    target_tokens: int = 0
    seconds: float = 0.0
    evaluation_due: bool = False
    resumed_from_steps: list[int] = field(default_factory=list)


@dataclass
class TrainingState:
    """Everything that changes while training. `numerics` is what shaped the last bits, for the record."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    interval: Interval
    numerics: dict[str, Any]
    counters: Counters = field(default_factory=Counters)


def save_state(folder: Path, state: TrainingState, records: dict[str, int]) -> None:
    """Write weights, optimizer, random states, counters, and the sizes of the record files."""
    weights = {name: tensor.contiguous() for name, tensor in _model_tensors(state.model).items()}
    tensors, scalars = _optimizer_entries(state)
    interval = state.interval
    with storage_errors(folder):
        save_file(weights, folder / MODEL)
        save_file({**tensors, INTERVAL: interval.sums}, folder / OPTIMIZER)
    values = {
        "counters": asdict(state.counters),
        "interval": [interval.num_steps, interval.target_tokens, interval.seconds],
        "optimizer": scalars,
        "random": _random_states(),
        "records": records,
        "numerics": state.numerics,
    }
    write_json(folder / STATE, values)


def restore_state(folder: Path, state: TrainingState) -> tuple[dict[str, int], dict[str, Any]]:
    """Put a verified checkpoint back in place; returns its record sizes and numerics."""
    values = json.loads((folder / STATE).read_bytes())
    saved = load_file(folder / MODEL)
    current = _model_tensors(state.model)
    assert saved.keys() == current.keys(), "the checkpoint is of another model"
    with torch.no_grad():
        for name, tensor in current.items():
            tensor.copy_(saved[name])
    entries = load_file(folder / OPTIMIZER)
    interval = state.interval
    interval.sums.copy_(entries.pop(INTERVAL))
    interval.num_steps, interval.target_tokens, interval.seconds = values["interval"]
    _restore_optimizer(state, entries, values["optimizer"])
    _restore_random_states(values["random"])
    state.counters = Counters(**values["counters"])
    return values["records"], values["numerics"]


def _model_tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """Parameters and persistent buffers by name; a tied one only under its first name."""
    seen: set[int] = set()
    tensors = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            tensors[name] = tensor.detach()
    return tensors


def _optimizer_entries(state: TrainingState) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The optimizer's state as `<parameter name>/<key>`: tensors, and other values."""
    tensors: dict[str, torch.Tensor] = {}
    scalars: dict[str, Any] = {}
    for name, parameter in state.model.named_parameters():
        for key, value in state.optimizer.state.get(parameter, {}).items():
            if isinstance(value, torch.Tensor):
                tensors[f"{name}/{key}"] = value.contiguous()
            elif value is not None:
                scalars[f"{name}/{key}"] = value
    return tensors, scalars


def _restore_optimizer(state: TrainingState, tensors: dict[str, torch.Tensor], scalars: dict[str, Any]) -> None:
    by_parameter: dict[str, dict[str, Any]] = {}
    for entry, value in {**tensors, **scalars}.items():
        name, _, key = entry.rpartition("/")
        by_parameter.setdefault(name, {})[key] = value
    names = {id(parameter): name for name, parameter in state.model.named_parameters()}
    parameters = [parameter for group in state.optimizer.param_groups for parameter in group["params"]]
    full = state.optimizer.state_dict()
    full["state"] = {
        index: by_parameter[names[id(parameter)]]
        for index, parameter in enumerate(parameters)
        if names[id(parameter)] in by_parameter
    }
    state.optimizer.load_state_dict(full)


def _random_states() -> dict[str, Any]:
    kind, words, gauss = random.getstate()
    numpy_state = np.random.get_state(legacy=False)
    assert isinstance(numpy_state, dict)
    inner = numpy_state["state"]
    return {
        "python": [kind, list(words), gauss],
        "numpy": {**numpy_state, "state": {"key": inner["key"].tolist(), "pos": int(inner["pos"])}},
        "torch": _to_hex(torch.get_rng_state()),
        "cuda": [_to_hex(state) for state in torch.cuda.get_rng_state_all()] if torch.cuda.is_available() else [],
    }


def _restore_random_states(states: dict[str, Any]) -> None:
    kind, words, gauss = states["python"]
    random.setstate((kind, tuple(words), gauss))
    inner = states["numpy"]["state"]
    key = np.array(inner["key"], dtype=np.uint32)
    np.random.set_state({**states["numpy"], "state": {"key": key, "pos": inner["pos"]}})
    torch.set_rng_state(_from_hex(states["torch"]))
    for device, state in zip(range(torch.cuda.device_count()), states["cuda"], strict=False):
        torch.cuda.set_rng_state(_from_hex(state), device)


def _to_hex(state: torch.Tensor) -> str:
    return state.cpu().numpy().tobytes().hex()


def _from_hex(text: str) -> torch.Tensor:
    return torch.frombuffer(bytearray.fromhex(text), dtype=torch.uint8)
