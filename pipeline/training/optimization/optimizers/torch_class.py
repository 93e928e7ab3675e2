"""Any class of torch.optim by its name."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pipeline.errors import ConfigError
from pipeline.known_names import is_known
from pipeline.training.optimization.optimizers.adam import torch_decay
from pipeline.training.optimization.optimizers.base_optimizer import OptimizerFamily
from pipeline.training.optimization.optimizers.sgd import sgd_decay

if TYPE_CHECKING:
    import torch

    from pipeline.training.optimization.optimization_config import OptimizationConfig

NOT_STEPWISE = {
    "LBFGS": "it evaluates the loss several times a step",
    "SparseAdam": "it takes sparse gradients only; train.gradient_density makes updates sparse with any optimizer",
    "Optimizer": "it is the base class of the others",
}
ALIASES = {"adagrad": "Adagrad", "rmsprop": "RMSprop"}
DECAY_IN_GRADIENT = ("Adadelta", "Adagrad", "Adamax", "RMSprop", "Rprop", "SGD")
LONG = "torch.optim."


class TorchClass(OptimizerFamily):
    """`adagrad`, `rmsprop` and any class of torch.optim by its name, such as `NAdam`."""

    names: ClassVar = tuple(ALIASES)

    def knows(self, name: str) -> bool:
        """Also classes that torch.optim has."""
        short = name.removeprefix(LONG)
        return super().knows(name) or (short not in NOT_STEPWISE and is_known("torch.optim", short))

    def supports_found_inf(self, name: str) -> bool:
        return name.removeprefix(LONG) in ("Adam", "AdamW", "SGD")

    def why_not(self, name: str) -> str | None:
        """Optimizers of which a step is not one gradient."""
        return NOT_STEPWISE.get(name.removeprefix(LONG))

    def decoupled_decay(self, name: str, group: Mapping[str, Any]) -> float | None:
        """Not known of ASGD, which decays by a rate of its own, of classes that later versions of torch bring, and
        where decay enters a gradient that is averaged or scaled."""
        short = name.removeprefix(LONG)
        if "decoupled_weight_decay" in group:
            return torch_decay(group)
        if short == "Adafactor":
            return float(group["lr"] * group["weight_decay"])
        if short == "SGD" and not group["momentum"]:
            return sgd_decay(group)
        is_without = ALIASES.get(short, short) in DECAY_IN_GRADIENT and not group.get("weight_decay")
        return 0.0 if is_without else None

    def coupled_decay(self, name: str, group: Mapping[str, Any]) -> float | None:
        return sgd_decay(group) if name.removeprefix(LONG) == "SGD" else None

    def find_class(self, name: str) -> type[torch.optim.Optimizer]:
        """The class. Raises ConfigError where the installed torch has none of the name."""
        import torch

        short = name.removeprefix(LONG)
        kind: type[torch.optim.Optimizer] | None = getattr(torch.optim, ALIASES.get(short, short), None)
        if kind is None:
            raise ConfigError(f"train.optim: torch {torch.__version__} has no {name}; take another, or another torch")
        return kind

    def build(
        self, config: OptimizationConfig, groups: Sequence[dict[str, Any]], device: torch.device
    ) -> torch.optim.Optimizer:
        """The number of steps stays on a GPU where the class can keep it there."""
        kind = self.find_class(config.optim)
        takes = inspect.signature(kind).parameters
        settings: dict[str, Any] = {"lr": config.learning_rate}
        if "capturable" in takes and device.type == "cuda":
            settings["capturable"] = True
        if "weight_decay" not in takes and any(group["weight_decay"] for group in groups):
            raise ConfigError(f"train.weight_decay: {config.optim} has none; set it to 0")
        return kind(groups, **{**settings, **config.optim_args})
