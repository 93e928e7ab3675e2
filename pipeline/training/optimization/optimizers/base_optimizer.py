"""What every family of optimizers has: names, settings, facts that others ask for, and `build`."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from pipeline.section import Section

if TYPE_CHECKING:
    import torch
    from torch import nn

    from pipeline.training.optimization.optimization_config import OptimizationConfig

USE_MUON = "use_muon"
"""Key of a parameter group: whether Muon moves it."""


class OptimizerConfig(Section):
    """Settings of every optimizer. A family with more derives its own, from which OptimizationConfig inherits."""

    optim: str = "adamw_torch_fused"

    optim_args: dict[str, bool | int | float | str | list[float] | None] = Field(default_factory=dict)
    """Arguments for the optimizer's class under its own names, such as `{nesterov: true}` for sgd. They come before
    this section's fields. For `muon` those of torch.optim.Muon, whose `adjust_lr_fn` is "match_rms_adamw" here, so
    that one learning rate fits both of its parts (Liu et al. 2025)."""

    learning_rate: float = Field(default=1e-3, gt=0)
    """Highest learning rate, reached at the end of the warm-up."""

    weight_decay: float = Field(default=0.1, ge=0)
    """Decay of weights, apart from the gradient in adamw, muon, lion and adafactor, and added to it in sgd, adam and
    most classes of torch.optim, where less is usual. Norms, biases and embeddings are not decayed."""


class OptimizerFamily:
    """Optimizers that take the same settings. The docstring of a family is part of what is said of `train.optim`."""

    names: ClassVar[tuple[str, ...]] = ()
    """Those of `train.optim` that it knows."""

    can_be_sharded: ClassVar[bool] = True
    """Whether it moves parameters that are sharded over processes."""

    multiplies_in_bf16: ClassVar[bool] = False
    """Whether a step multiplies matrices in bf16, whatever `train.mixed_precision` is."""

    def knows(self, name: str) -> bool:
        """Whether `train.optim` may name one of these."""
        return name in self.names

    def supports_found_inf(self, name: str) -> bool:
        """Whether its fused kernels change nothing while the optimizer's `found_inf` is 1."""
        return False

    def why_not(self, name: str) -> str | None:
        """Why a name that may be meant for one of these cannot be used."""
        return None

    def files_of_key(self, name: str) -> Mapping[str, list[Path]]:
        """Files whose content shapes the result, by the name under which `plan` speaks of them."""
        return {}

    def check(self, name: str) -> None:
        """Raises ConfigError for what only a look into libraries tells."""

    def decoupled_decay(self, name: str, group: Mapping[str, Any]) -> float | None:
        """The part of each weight of a parameter group that a step takes away apart from the gradient. None where it is
        not known, and where decay is added to the gradient and averaged with it (Loshchilov & Hutter 2019 compare the
        two)."""
        return None

    def coupled_decay(self, name: str, group: Mapping[str, Any]) -> float | None:
        """The part of each weight that the decay in the gradient of one step takes away in all, at once and by the
        momentum of the steps to come, at the step's learning rate. None where it is not known."""
        return None

    def muon_parameters(self, model: nn.Module) -> set[str]:
        """Names of the parameters that Muon updates. The others use AdamW."""
        return set()

    @abstractmethod
    def build(
        self, config: OptimizationConfig, groups: Sequence[dict[str, Any]], device: torch.device
    ) -> torch.optim.Optimizer:
        """The optimizer of `config` for groups of parameters, each with its `weight_decay`, which will be on `device`.

        Raises ConfigError, TypeError or ValueError for arguments that it does not take.
        """

    def build_without_data(self, config: OptimizationConfig, groups: Sequence[dict[str, Any]]) -> torch.optim.Optimizer:
        """One with as much state for parameters that have shapes and no values."""
        import torch

        return self.build(config, groups, torch.device("cpu"))
