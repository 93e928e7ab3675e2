"""Parameters in groups of equal learning rate and weight decay, and their optimizer."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from pipeline.errors import ConfigError
from pipeline.modeling.parameters import embedding_parameters, norm_parameters
from pipeline.training.optimization.name_patterns import Finder
from pipeline.training.optimization.optimization_config import OptimizationConfig
from pipeline.training.optimization.optimizers import family_of
from pipeline.training.optimization.optimizers.base_optimizer import USE_MUON

RATE_SCALE = "learning_rate_scale"
"""Key of a parameter group: its highest learning rate as a part of `train.learning_rate`."""


def build_optimizer(config: OptimizationConfig, model: nn.Module, device: torch.device) -> torch.optim.Optimizer:
    """The optimizer of `train.optim` over the model's trainable parameters, which will be on `device`.

    `set_learning_rate` is to be called before every step; no step copies from the device, but those of torch's own
    Adafactor. Raises ConfigError for arguments that the class does not take, a group that matches nothing, and when
    bitsandbytes is needed and missing.
    """
    family, groups = family_of(config.optim), parameter_groups(config, model)
    try:
        return family.build(config, groups, device)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"train.optim_args: {config.optim} refuses its arguments: {error}") from None


def optimizer_without_data(config: OptimizationConfig, model: nn.Module) -> torch.optim.Optimizer:
    """One with as much state over parameters that have shapes and no values.

    Raises ConfigError as `build_optimizer`.
    """
    return family_of(config.optim).build_without_data(config, parameter_groups(config, model))


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set every group's learning rate for the next step: `rate`, scaled in groups with a rate of their own."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group[RATE_SCALE]


def parameter_groups(config: OptimizationConfig, model: nn.Module) -> list[dict[str, Any]]:
    """Trainable parameters in groups of equal learning rate, weight decay and, for muon, method.

    Norms, biases and embeddings are not decayed unless a group of the configuration says so. Raises ConfigError for
    a group that no parameter is in.
    """
    undecayed = norm_parameters(model) | embedding_parameters(model)
    by_muon = family_of(config.optim).muon_parameters(model)
    rules, used = config.parameter_groups, set()
    finders = [Finder(f"train.parameter_groups.{index}.pattern", rule.pattern) for index, rule in enumerate(rules)]
    groups: dict[tuple[float, float, bool], dict[str, Any]] = {}
    for name, parameter in trainable(model):
        plain = name in undecayed or name.endswith("bias") or parameter.ndim < 2
        plain |= getattr(parameter, "_no_weight_decay", False)  # set by state-space models
        decay: float = 0.0 if plain else config.weight_decay
        rate: float = config.learning_rate
        index = next((index for index, finder in enumerate(finders) if finder.finds(name)), None)
        if index is not None:
            used.add(index)
            own_decay = rules[index].weight_decay
            decay, rate = decay if own_decay is None else own_decay, rules[index].learning_rate or rate
        key = (rate / config.learning_rate, decay, name in by_muon)
        groups.setdefault(key, {"params": []})["params"].append(parameter)
    if unused := sorted(set(range(len(rules))) - used):
        names = [name for name, _ in trainable(model)]
        raise ConfigError(
            f"train.parameter_groups.{unused[0]}.pattern: {rules[unused[0]].pattern!r} is in the name of no trainable "
            f"parameter that an earlier group leaves; names are like {names[0]} and {names[-1]}"
        )
    return [
        {**group, "weight_decay": decay, RATE_SCALE: scale, USE_MUON: muon}
        for (scale, decay, muon), group in groups.items()
    ]


def trainable(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """Names and parameters that are trained; a tied weight once."""
    return [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
