"""Optimizers and their parameter groups."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from pipeline.errors import ConfigError
from pipeline.modeling.parameters import norm_parameters
from pipeline.modeling.sharding import is_held_by_few
from pipeline.training.muon import USE_MUON, MuonWithAdamW
from pipeline.training.name_patterns import Finder
from pipeline.training.optimization_config import BITSANDBYTES_OPTIMIZERS, OptimizationConfig

CLASSES = {
    "adamw_torch_fused": "AdamW",
    "adamw_torch": "AdamW",
    "adam": "Adam",
    "sgd": "SGD",
    "adagrad": "Adagrad",
    "rmsprop": "RMSprop",
}
RATE_SCALE = "learning_rate_scale"
"""Key of a parameter group: its highest learning rate as a part of `train.learning_rate`."""


def build_optimizer(config: OptimizationConfig, model: nn.Module, device: torch.device) -> torch.optim.Optimizer:
    """The optimizer of `train.optim` over the model's trainable parameters, which will be on `device`.

    `set_learning_rate` is to be called before every step; no step copies from the device, but those of torch's own
    Adafactor. Raises ConfigError for arguments that the class does not take, a group that matches nothing, and when
    bitsandbytes is needed and missing.
    """
    groups = parameter_groups(config, model)
    try:
        return _build(config, groups, device)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"train.optim_args: {config.optim} refuses its arguments: {error}") from None


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set every group's learning rate for the next step: `rate`, scaled in groups with a rate of their own."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group[RATE_SCALE]


def parameter_groups(config: OptimizationConfig, model: nn.Module) -> list[dict[str, Any]]:
    """Trainable parameters in groups of equal learning rate, weight decay and, for muon, method.

    Norms, biases and embeddings are not decayed unless a group of the configuration says so. Raises ConfigError for
    a group that no parameter is in.
    """
    undecayed = norm_parameters(model) | _embeddings(model)
    with_muon = _hidden_matrices(model) if _is_muon(config) else set()
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
        key = (rate / config.learning_rate, decay, name in with_muon)
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


def _build(config: OptimizationConfig, groups: list[dict[str, Any]], device: torch.device) -> torch.optim.Optimizer:
    name, rate, extra = config.optim, {"lr": config.learning_rate}, config.optim_args
    adam = {"betas": (config.adam_beta1, config.adam_beta2), "eps": config.adam_epsilon}
    if _is_muon(config):
        # An update as large as AdamW's, so that one learning rate fits both (Liu et al. 2025, arXiv 2502.16982).
        muon = {"adjust_lr_fn": "match_rms_adamw", **extra}
        stuck = [matrix for group in groups if group[USE_MUON] for matrix in group["params"] if is_held_by_few(matrix)]
        if stuck:
            shape = " x ".join(map(str, stuck[0].shape))
            raise ConfigError(
                f"train.optim: muon cannot move a matrix of {shape} that is sharded over more processes than it has "
                "rows, of which its columns are no multiple; start another number of them, or take adamw_torch_fused"
            )
        return MuonWithAdamW(groups, {**rate, **muon}, {**rate, **adam, "fused": True})
    if name == "adafactor":
        from transformers.optimization import Adafactor

        # As in transformers' Trainer: the rate is that of the schedule. torch's own waits for the device in each step.
        return Adafactor(groups, **{**rate, "scale_parameter": False, "relative_step": False, **extra})
    if name in BITSANDBYTES_OPTIMIZERS:
        kind, bits, paged = BITSANDBYTES_OPTIMIZERS[name]
        settings = {"optim_bits": bits, **({"is_paged": True} if paged else {}), **(adam if kind == "AdamW" else {})}
        return getattr(_bitsandbytes(name).optim, kind)(groups, **{**rate, **settings, **extra})
    kind = getattr(torch.optim, CLASSES.get(name, name.removeprefix("torch.optim.")))
    takes = inspect.signature(kind).parameters
    settings = dict(rate)
    if name in ("adam", "adamw_torch", "adamw_torch_fused"):
        settings |= {**adam, "fused": name != "adamw_torch"}
    elif name == "sgd":
        settings |= {"momentum": config.momentum, "nesterov": config.nesterov, "fused": True}
    elif "capturable" in takes and device.type == "cuda":
        settings["capturable"] = True  # keeps the number of steps on the device
    if "weight_decay" not in takes and any(group["weight_decay"] for group in groups):
        raise ConfigError(f"train.weight_decay: {name} has none; set it to 0")
    return kind(groups, **{**settings, **extra})


def _is_muon(config: OptimizationConfig) -> bool:
    return config.optim in ("muon", "Muon", "torch.optim.Muon")


def _embeddings(model: nn.Module) -> set[str]:
    return {f"{name}.weight".lstrip(".") for name, module in model.named_modules() if isinstance(module, nn.Embedding)}


def _hidden_matrices(model: nn.Module) -> set[str]:
    """Matrices between embeddings and head. Experts that are stacked in one tensor of three dimensions are none."""
    head = model.get_output_embeddings() if isinstance(model, PreTrainedModel) else None
    outside = _embeddings(model) | norm_parameters(model)
    return {
        name
        for name, parameter in model.named_parameters()
        if parameter.ndim == 2 and name not in outside and (head is None or parameter is not head.weight)
    }


def _bitsandbytes(name: str) -> Any:
    try:
        import bitsandbytes
    except ImportError:
        raise ConfigError(
            f"train.optim: {name} needs bitsandbytes, which is not installed; install the extra with "
            "pip install 'descent-pipeline[bitsandbytes]'"
        ) from None
    return bitsandbytes
