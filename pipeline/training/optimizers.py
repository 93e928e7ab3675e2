"""Optimizers and their parameter groups."""

from __future__ import annotations

import torch
from torch import nn

from pipeline.config.train import TrainConfig
from pipeline.modeling.parameters import norm_parameters


def build_optimizer(section: TrainConfig, model: nn.Module) -> torch.optim.Optimizer:
    """The optimizer of `train.optim` over the model's trainable parameters, in two groups.

    The loop sets each group's `lr` before every step.
    """
    groups = parameter_groups(model, section.weight_decay)
    if section.optim == "sgd":
        return torch.optim.SGD(groups, lr=section.learning_rate, momentum=section.momentum)
    betas = (section.adam_beta1, section.adam_beta2)
    return torch.optim.AdamW(groups, lr=section.learning_rate, betas=betas, eps=section.adam_epsilon, fused=True)


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Trainable parameters with and without weight decay. Norms, biases and embeddings are not decayed."""
    not_decayed = norm_parameters(model) | _embedding_parameters(model)
    decayed: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            plain = name in not_decayed or name.endswith("bias") or parameter.ndim < 2
            plain |= getattr(parameter, "_no_weight_decay", False)  # set by state-space models
            (others if plain else decayed).append(parameter)
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def _embedding_parameters(model: nn.Module) -> set[str]:
    return {f"{name}.weight".lstrip(".") for name, module in model.named_modules() if isinstance(module, nn.Embedding)}
