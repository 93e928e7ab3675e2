"""Models without weights, and their weights from an initialization recipe: whole, or sharded where they will live."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch
from accelerate import init_empty_weights
from torch import nn
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel
from transformers.initialization import no_init_weights

from pipeline.atomic import write_json
from pipeline.modeling.heads import CAUSAL_LM, Head, head_in
from pipeline.modeling.initialization import initialize
from pipeline.modeling.model_config import InitializationConfig
from pipeline.modeling.sharding import is_sharded, keeping_marks
from pipeline.pretrained.origin import has_code

RECIPE = "initialization.json"
"""In the folder of a model that is saved without weights: how to make them."""


def empty_model(
    config: PreTrainedConfig, head: Head = CAUSAL_LM, dtype: torch.dtype = torch.float32
) -> PreTrainedModel:
    """A model whose parameters are on the meta device and whose buffers are whole. Takes no memory."""
    return without_weights(lambda: head.auto_class.from_config(config, dtype=dtype))


def without_weights(build: Callable[[], PreTrainedModel]) -> PreTrainedModel:
    """The model that `build` makes, with its parameters on the meta device."""
    with init_empty_weights(include_buffers=False), no_init_weights():
        model = build()
    model.tie_weights()
    return model


def fill(
    model: PreTrainedModel,
    config: InitializationConfig,
    seed: int,
    head: Head = CAUSAL_LM,
    device: torch.device | str = "cpu",
) -> PreTrainedModel:
    """Give the parameters of `empty_model` memory on `device` and their initial values; returns the same model.

    A model that was sharded meanwhile gets this process's shards alone, which are the same numbers as those of the
    whole model. With an architecture's own initialization one whole parameter at a time lies in the CPU's memory; the
    other methods draw the shard alone.
    """
    allocate(model, device)
    initialize(model, config, seed, head)
    return model


def allocate(model: PreTrainedModel, device: torch.device | str) -> None:
    """Give the parameters of `empty_model` memory on `device`, without values. Tied weights stay tied.

    Buffers come along, but those of a sharded model stay on the device that computes, where sharding put them, while
    parameters may live on the host.
    """
    owners: dict[nn.Parameter, list[tuple[nn.Module, str]]] = {}
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            owners.setdefault(parameter, []).append((module, name))
    with keeping_marks(model):
        for parameter, places in owners.items():
            real = nn.Parameter(torch.empty_like(parameter, device=device), requires_grad=parameter.requires_grad)
            for module, name in places:
                module.register_parameter(name, real)
        if is_sharded(model):
            # So that FSDP learns of the new tensors.
            model._apply(lambda tensor: tensor)
            return
    for module in model.modules():
        for name, buffer in module.named_buffers(recurse=False):
            module._buffers[name] = buffer.to(device)


def save_recipe(folder: Path, config: InitializationConfig, seed: int) -> None:
    """Write how the weights of the model in `folder`, which holds its configuration alone, are made."""
    write_json(folder / RECIPE, {"seed": seed, "initialization": config.model_dump(mode="json")})


def is_recipe(folder: Path) -> bool:
    """Whether a model's folder holds a recipe in place of weights."""
    return (folder / RECIPE).is_file()


def open_empty(folder: Path, dtype: torch.dtype | Literal["auto"] = torch.float32) -> PreTrainedModel:
    """The `empty_model` of a folder that holds weights or a recipe of them; `auto` is the precision that its
    configuration names."""
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=has_code(folder))
    return empty_model(config, head_in(folder), (config.dtype or torch.float32) if dtype == "auto" else dtype)


def materialize(folder: Path, model: PreTrainedModel, device: torch.device | str = "cpu") -> PreTrainedModel:
    """`fill` the model of `open_empty`, which may be sharded by now, as the recipe says; returns the same model."""
    recipe = json.loads((folder / RECIPE).read_bytes())
    return fill(model, InitializationConfig(**recipe["initialization"]), recipe["seed"], head_in(folder), device)
