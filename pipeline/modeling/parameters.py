"""Names for the parts of a model, and how many parameters each has."""

from __future__ import annotations

import re
from typing import Any

from torch import nn
from transformers import PreTrainedModel

_BLOCK = re.compile(r"(?:[^.\d][^.]*\.)+?\d+(?=\.)")
_ATTENTION = re.compile(r"attn|attention", re.IGNORECASE)
_FEED_FORWARD = re.compile(r"mlp|feed_?forward|ffn|moe|expert|fc\d?|dense", re.IGNORECASE)


def layer_of(name: str, base_prefix: str = "") -> str:
    """The layer that a parameter belongs to: `model.layers.3.mlp.up_proj.weight` -> `layers.3`.

    `base_prefix` is the architecture's name for its backbone (`model`, `transformer`), which is left out.
    Parameters outside the numbered blocks belong to their own module: `embed_tokens`, `norm`, `lm_head`.
    """
    short = name.removeprefix(f"{base_prefix}.") if base_prefix else name
    block = _BLOCK.match(short)
    return block.group() if block else short.rpartition(".")[0] or short


def is_block(layer: str) -> bool:
    """Whether a layer is one of the numbered blocks, which share one shape."""
    return layer.rpartition(".")[2].isdigit()


def blocks(model: nn.Module) -> dict[str, nn.Module]:
    """The numbered blocks of a model by layer name, such as `layers.0`."""
    prefix = getattr(model, "base_model_prefix", "")
    return {
        layer: module
        for name, module in model.named_modules()
        if is_block(layer := layer_of(f"{name}.weight", prefix)) and name.removeprefix(f"{prefix}.") == layer
    }


def norm_parameters(model: nn.Module) -> set[str]:
    """Names of the parameters of normalization layers."""
    return {
        f"{module_name}.{name}".lstrip(".")
        for module_name, module in model.named_modules()
        if "norm" in type(module).__name__.lower()
        for name, _ in module.named_parameters(recurse=False)
    }


def parameter_table(model: PreTrainedModel) -> dict[str, Any]:
    """Parameters by part: `{"total", "trainable", "parts": [{"name", "parameters", "share"}]}`.

    A block is split into attention, mlp and norms. A tied weight counts once, where it first appears.
    """
    norms = norm_parameters(model)
    counts: dict[str, int] = {}
    trainable = 0
    for name, parameter in model.named_parameters():
        layer = layer_of(name, model.base_model_prefix)
        part = f"{layer}.{_kind(name, layer, name in norms)}" if is_block(layer) else layer
        counts[part] = counts.get(part, 0) + parameter.numel()
        trainable += parameter.numel() if parameter.requires_grad else 0
    total = sum(counts.values())
    parts = [{"name": name, "parameters": count, "share": round(count / total, 6)} for name, count in counts.items()]
    return {"total": total, "trainable": trainable, "parts": parts}


def _kind(name: str, layer: str, is_norm: bool) -> str:
    inside = name.partition(f"{layer}.")[2]
    if is_norm:
        return "norms"
    if _ATTENTION.search(inside):
        return "attention"
    return "mlp" if _FEED_FORWARD.search(inside) else inside.partition(".")[0]
