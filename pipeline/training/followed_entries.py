"""Single entries of parameters that the anatomy of a step follows through the update."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from pipeline.modeling.layer_names import matrix_name
from pipeline.telemetry.anatomy import Update
from pipeline.telemetry.update_by_hand import formula_of, work_out
from pipeline.training.optimization.optimizers.muon_with_adamw import MuonWithAdamW

NUM_ENTRIES = 4
"""Entries of parameters that are followed, each in another parameter."""


@dataclass(frozen=True)
class Entry:
    """An entry of a parameter that is followed: its place when the parameter is flat."""

    name: str
    parameter: nn.Parameter
    place: int
    weight: float
    gradient: float

    @property
    def index(self) -> list[int]:
        return [int(one) for one in np.unravel_index(self.place, self.parameter.shape)]


def choose_entries(trained: Mapping[str, nn.Parameter], gradients: Mapping[str, torch.Tensor]) -> list[Entry]:
    """The entry with the largest gradient in each of some matrices, which are spread over the depth."""
    moved = [name for name, gradient in gradients.items() if bool(gradient.any())]
    names = [name for name in moved if gradients[name].ndim >= 2] or moved
    chosen = [names[round(part * (len(names) - 1) / max(1, NUM_ENTRIES - 1))] for part in range(NUM_ENTRIES)]
    entries = []
    for name in dict.fromkeys(chosen) if names else ():
        place = int(gradients[name].abs().argmax())
        weight = float(trained[name].detach().reshape(-1)[place])
        entries.append(Entry(name, trained[name], place, weight, float(gradients[name].reshape(-1)[place])))
    return entries


def foresee(optimizer: torch.optim.Optimizer, entry: Entry, prefix: str) -> Update:
    """The update of an entry by hand, before the optimizer's step."""
    assert entry.parameter.grad is not None
    gradient = float(entry.parameter.grad.reshape(-1)[entry.place])
    group = next(one for one in optimizer.param_groups if any(p is entry.parameter for p in one["params"]))
    part = optimizer.part_of(group) if isinstance(optimizer, MuonWithAdamW) else optimizer
    formula, state = formula_of(part, group), _state_of(optimizer, entry)
    by_hand = None if formula is None else work_out(formula, group, state, entry.weight, gradient)
    return Update(
        parameter=matrix_name(entry.name, prefix),
        index=entry.index,
        weight=entry.weight,
        gradient=gradient,
        formula=formula,
        settings={} if by_hand is None else by_hand.settings,
        state={} if by_hand is None else state,
        worked={} if by_hand is None else by_hand.steps,
        by_hand=None if by_hand is None else by_hand.change,
        by_optimizer=0.0,
        rounding=0.0,
        method=type(part).__name__,
    )


def with_outcome(foreseen: Update, entry: Entry) -> Update:
    """What was foreseen, with what the optimizer's step made of the entry."""
    moved = float(entry.parameter.detach().reshape(-1)[entry.place])
    rounding = float(np.spacing(np.float32(max(abs(entry.weight), abs(moved)))))
    return replace(foreseen, by_optimizer=moved - entry.weight, rounding=rounding)


def _state_of(optimizer: torch.optim.Optimizer, entry: Entry) -> dict[str, float]:
    """What the optimizer remembers of an entry: of tensors in the parameter's shape the entry, and single numbers."""
    state = {}
    for name, value in sorted(optimizer.state.get(entry.parameter, {}).items()):
        if isinstance(value, torch.Tensor) and value.shape == entry.parameter.shape:
            state[name] = float(value.reshape(-1)[entry.place])
        elif isinstance(value, (int, float)) or (isinstance(value, torch.Tensor) and value.numel() == 1):
            state[name] = float(value)
    return state
