"""The state of an optimizer of bitsandbytes, without the optimizer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

BLOCK = 256
FEWEST_IN_8_BITS = 4096


class PackedState(torch.optim.Optimizer):
    """Holds the moments of gradients that bitsandbytes would, each in 8 bits with a scale for every 256 numbers, or in
    float32 where that is asked for or the parameter is small (Dettmers et al. 2022, arXiv 2110.02861), and does
    nothing. State that is paged counts, although it may leave the device."""

    def __init__(self, groups: Sequence[dict[str, Any]], num_moments: int, bits: int) -> None:
        super().__init__(groups, {})
        self._num_moments, self._bits = num_moments, bits

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Make the state that is not there yet."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter not in self.state:
                    self.state[parameter] = self._state_of(parameter)

    def _state_of(self, parameter: torch.Tensor) -> dict[str, torch.Tensor]:
        is_packed = self._bits == 8 and parameter.numel() >= FEWEST_IN_8_BITS
        state = {}
        for moment in range(self._num_moments):
            state[f"moment{moment}"] = torch.empty_like(parameter, dtype=torch.uint8 if is_packed else torch.float32)
            if is_packed:
                state[f"scales{moment}"] = torch.empty(-(-parameter.numel() // BLOCK))
        return state
