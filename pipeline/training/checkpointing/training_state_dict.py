"""Everything that a training needs to go on exactly: captured, written into a checkpoint folder, and restored from it.

Tensors are in safetensors, the rest in JSON; nothing here unpickles a file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor

from pipeline.atomic import write_json
from pipeline.modeling.seeded_weights import local_part
from pipeline.modeling.weights import (
    StoredTensor,
    TensorShard,
    copy_stored,
    is_cut,
    model_tensors,
    own_part,
    read_lazily,
    save_parts,
)
from pipeline.training.checkpointing.counters import Counters
from pipeline.training.checkpointing.random_states import random_states, restore_random_states, seed_process

if TYPE_CHECKING:
    from pipeline.training.train_state import TrainState

MODEL, OPTIMIZER, AVERAGE, STATE = "model.safetensors", "optimizer.safetensors", "average.safetensors", "state.json"
INTERVAL_LOSSES, INTERVAL_NORMS = "interval/losses", "interval/norms"
INPUT_ROWS = "input_rows"


@dataclass(frozen=True)
class Snapshot:
    """What this process writes into a checkpoint: a copy on the host, which later steps do not change.

    Process 0 writes whole tensors and its shards. The other processes of the first replica write their shards. All
    others write nothing.
    """

    model: dict[str, TensorShard]
    optimizer: dict[str, TensorShard]
    average: dict[str, TensorShard]
    values: dict[str, Any] | None

    def write(self, folder: Path) -> None:
        """Write this process's files of a checkpoint."""
        save_parts(self.model, folder / MODEL)
        save_parts(self.optimizer, folder / OPTIMIZER)
        save_parts(self.average, folder / AVERAGE)
        if self.values is not None:
            write_json(folder / STATE, self.values)


def take_snapshot(state: TrainState, records: dict[str, dict[str, Any]]) -> Snapshot:
    """Copy weights, optimizer, counters, the state of the record files, and each process's random states and sums.

    All processes call it at the same step.
    """
    sums, processes = state.running_sums, state.processes
    tensors, scalars = optimizer_entries(state.unwrapped_model, state.unwrapped_optimizer)
    own_losses = [total.item() for total in sums.losses.values()]
    everyone = processes.all_gather((random_states(), own_losses))
    tensors[INTERVAL_LOSSES] = torch.tensor([losses for _, losses in everyone], dtype=torch.float32)
    tensors[INTERVAL_NORMS] = sums.norms
    if (rows := state.input_rows.of_all(processes)) is not None:
        tensors[INPUT_ROWS] = rows
    values = {
        "counters": asdict(state.counters),
        "interval": [sums.num_steps, sums.target_tokens, *sums.highest],
        "losses": list(sums.losses),
        "optimizer": scalars,
        "random": [states for states, _ in everyone],
        **records,
        "numerics": state.numerics,
        "loss_scaler": state.loss_scaler.state_dict() if state.loss_scaler else {},
    }

    def writes(tensor: torch.Tensor) -> bool:
        return processes.is_main or (processes.dims.is_first_copy and is_cut(tensor))

    def copy(group: dict[str, torch.Tensor]) -> dict[str, TensorShard]:
        return {name: own_part(tensor) for name, tensor in group.items() if writes(tensor)}

    weights, average = model_tensors(state.unwrapped_model), state.ema.tensors
    return Snapshot(copy(weights), copy(tensors), copy(average), values if processes.is_main else None)


def restore_state(folder: Path, state: TrainState) -> dict[str, Any]:
    """Put a verified checkpoint back in place; returns all of its values that are no tensors.

    The number of processes may have changed. New processes seed their generators from (seed, rank, step). Sums since
    the last record go to process 0.
    """
    values = json.loads((folder / STATE).read_bytes())
    state.counters = Counters.from_state(values["counters"])
    losses, norms = restore_learned(folder, state)
    _restore_interval(state, values, losses, norms)
    if state.processes.rank < len(values["random"]):
        restore_random_states(values["random"][state.processes.rank])
    else:
        seed_process(state.seed, state.processes.rank, state.counters.step)
    return dict(values)


def restore_learned(folder: Path, state: TrainState) -> tuple[torch.Tensor, torch.Tensor]:
    """Put weights, their average and the optimizer of a verified checkpoint back and nothing else; returns the
    interval's tensors."""
    values = json.loads((folder / STATE).read_bytes())
    restore_weights(folder, state.unwrapped_model)
    entries = _stored(folder, OPTIMIZER)
    losses, norms = entries.pop(INTERVAL_LOSSES).read(), entries.pop(INTERVAL_NORMS).read()
    rows = entries.pop(INPUT_ROWS, None)
    state.input_rows.restore(None if rows is None else rows.read())
    restore_optimizer(state.unwrapped_model, state.unwrapped_optimizer, entries, values["optimizer"])
    averages = _stored(folder, AVERAGE)
    for name, tensor in state.ema.tensors.items():
        copy_stored(tensor, averages[name])
    if state.loss_scaler:
        state.loss_scaler.load_state_dict(values["loss_scaler"])
    return losses, norms


def restore_weights(folder: Path, model: nn.Module, *, averaged: bool = False) -> None:
    """Put the weights of a verified checkpoint into a model, whole or sharded; `averaged`: of its moving average."""
    saved = stored_weights(folder, averaged=averaged)
    current = model_tensors(model)
    assert saved.keys() == current.keys(), "the checkpoint is of another model"
    for name, tensor in current.items():
        copy_stored(tensor, saved[name])


def stored_weights(folder: Path, *, averaged: bool = False) -> dict[str, StoredTensor]:
    """The weights of a checkpoint by name; `averaged`: of its moving average."""
    return _stored(folder, MODEL) | (_stored(folder, AVERAGE) if averaged else {})


def restore_saved_optimizer(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Put the optimizer's state of a verified checkpoint into one over the parameters of a model."""
    values, entries = json.loads((folder / STATE).read_bytes()), _stored(folder, OPTIMIZER)
    for name in (INTERVAL_LOSSES, INTERVAL_NORMS, INPUT_ROWS):
        entries.pop(name, None)
    restore_optimizer(model, optimizer, entries, values["optimizer"])


def _stored(folder: Path, file: str) -> dict[str, StoredTensor]:
    """The tensors that all processes of the checkpoint's training wrote into files of this name."""
    return read_lazily(sorted(folder.rglob(file)))


def _restore_interval(state: TrainState, values: dict[str, Any], losses: torch.Tensor, norms: torch.Tensor) -> None:
    sums, processes = state.running_sums, state.processes
    if len(losses) == processes.world_size:
        own = losses[processes.rank]
    else:
        own = losses.sum(dim=0) if processes.is_main else torch.zeros_like(losses[0])
    sums.losses = dict(zip(values["losses"], own.to(sums.norms.device), strict=True))
    sums.norms.copy_(norms)
    sums.num_steps, sums.target_tokens, *sums.highest = values["interval"]


def optimizer_entries(
    model: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The optimizer's state as `<parameter name>/<key>`: tensors, and other values."""
    tensors: dict[str, torch.Tensor] = {}
    scalars: dict[str, Any] = {}
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, torch.Tensor):
                tensors[f"{name}/{key}"] = value
            elif value is not None:
                scalars[f"{name}/{key}"] = value
    return tensors, scalars


def restore_optimizer(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    tensors: Mapping[str, torch.Tensor | StoredTensor],
    scalars: Mapping[str, Any],
) -> None:
    """Put back what `optimizer_entries` gave; tensors may be stored in files."""
    parameters_by_name = dict(model.named_parameters())
    by_parameter: dict[str, dict[str, Any]] = {}
    for entry, value in {**tensors, **scalars}.items():
        name, _, key = entry.rpartition("/")
        if isinstance(value, StoredTensor):
            value = _read_like(parameters_by_name[name], value)
        by_parameter.setdefault(name, {})[key] = value
    names = {id(parameter): name for name, parameter in parameters_by_name.items()}
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    full = optimizer.state_dict()
    full["state"] = {
        index: by_parameter[names[id(parameter)]]
        for index, parameter in enumerate(parameters)
        if names[id(parameter)] in by_parameter
    }
    optimizer.load_state_dict(full)


def _read_like(parameter: torch.Tensor, stored: StoredTensor) -> torch.Tensor:
    """A tensor of an optimizer's state: sharded as its parameter, where that is and both have one shape."""
    if not isinstance(parameter, DTensor) or stored.shape != parameter.shape:
        return stored.read()
    local, region = local_part(parameter)
    values = stored.read(region).to(local.device)
    shape, stride = parameter.shape, parameter.stride()
    return DTensor.from_local(values, parameter.device_mesh, parameter.placements, shape=shape, stride=stride)
