"""Muon for some parameters and AdamW for the others, as one optimizer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from pipeline.training.optimization.optimizers.base_optimizer import USE_MUON


class MuonWithAdamW(torch.optim.Optimizer):
    """torch.optim.Muon (Jordan 2024, "Muon: An optimizer for hidden layers in neural networks") for the groups whose
    `use_muon` is true and AdamW for the others. Both share this optimizer's groups and state, so that learning rates
    are set and checkpoints are taken as of any optimizer."""

    def __init__(self, groups: Sequence[dict[str, Any]], muon: dict[str, Any], adamw: dict[str, Any]) -> None:
        super().__init__(groups, {})
        kinds = ((True, torch.optim.Muon, muon), (False, torch.optim.AdamW, adamw))
        # Building a part fills the defaults of its method into the shared groups.
        self._parts = [
            (chosen, kind(own, **settings)) for chosen, kind, settings in kinds if (own := self._own(chosen))
        ]
        self._share()

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update of all groups."""
        assert closure is None, "the loss is computed by the training loop"
        for _, part in self._parts:
            part.step()

    def part_of(self, group: dict[str, Any]) -> torch.optim.Optimizer:
        """What moves a group."""
        return next(part for chosen, part in self._parts if group[USE_MUON] == chosen)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As of any optimizer."""
        super().load_state_dict(state_dict)
        self._share()

    def _share(self) -> None:
        """Loading replaces groups and state by new objects: hand them to the parts again."""
        for chosen, part in self._parts:
            part.param_groups, part.state = self._own(chosen), self.state

    def _own(self, chosen: bool) -> list[dict[str, Any]]:
        return [group for group in self.param_groups if group[USE_MUON] == chosen]
