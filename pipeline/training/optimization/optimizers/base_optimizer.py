"""What every family of optimizers has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    import torch
    from torch import nn

    from pipeline.training.optimization.optimization_config import OptimizationConfig


class OptimizerFamily:
    """Optimizers that take the same settings."""

    names: ClassVar[tuple[str, ...]] = ()
    """Those of `train.optim` that it knows."""

    can_be_sharded: ClassVar[bool] = True
    """Whether it moves parameters that are sharded over processes."""

    def knows(self, name: str) -> bool:
        """Whether `train.optim` may name one of these."""
        return name in self.names

    def why_not(self, name: str) -> str | None:
        """Why a name that may be meant for one of these cannot be used."""
        return None

    def files_of_key(self, name: str) -> Mapping[str, list[Path]]:
        """Files whose content shapes the result, by the name under which `plan` speaks of them."""
        return {}

    def check(self, name: str) -> None:
        """Raises ConfigError for what only a look into libraries tells."""

    def apart(self, model: nn.Module) -> set[str]:
        """Names of parameters that go into groups of their own, which are marked `use_muon`."""
        return set()

    def build(
        self, config: OptimizationConfig, groups: Sequence[dict[str, Any]], device: torch.device
    ) -> torch.optim.Optimizer:
        """The optimizer of `config` for groups of parameters, each with its `weight_decay`, which will be on `device`.

        Raises ConfigError, TypeError or ValueError for arguments that it does not take.
        """
        raise NotImplementedError

    def build_without_data(self, config: OptimizationConfig, groups: Sequence[dict[str, Any]]) -> torch.optim.Optimizer:
        """One with as much state for parameters that have shapes and no values."""
        import torch

        return self.build(config, groups, torch.device("cpu"))
