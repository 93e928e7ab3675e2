"""Names for the parts of a model, and how many parameters each has."""

from __future__ import annotations

import re
from typing import Any

from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from pipeline.modeling.layer_names import WRAPPED, is_block, layer_of
from pipeline.pretrained.folder_checks import CHOSEN_EXPERTS, EXPERTS

_ATTENTION = re.compile(r"attn|attention", re.IGNORECASE)
_ROUTER = re.compile(r"router|\bgate\.", re.IGNORECASE)
_FEED_FORWARD = re.compile(r"mlp|feed_?forward|ffn|moe|expert|fc\d?|dense", re.IGNORECASE)


def blocks(model: nn.Module) -> dict[str, nn.Module]:
    """The numbered blocks of a model by layer name, such as `layers.0`."""
    prefix = getattr(model, "base_model_prefix", "")
    return {
        layer: module
        for name, module in model.named_modules()
        if is_block(layer := layer_of(f"{name}.weight", prefix))
        and name.removeprefix(WRAPPED).removeprefix(f"{prefix}.") == layer
        and next(module.parameters(), None) is not None  # a list of rotary embeddings is numbered too
    }


def embedding_parameters(model: nn.Module) -> set[str]:
    """Names of the weights of embeddings."""
    return {f"{name}.weight".lstrip(".") for name, module in model.named_modules() if isinstance(module, nn.Embedding)}


def norm_parameters(model: nn.Module) -> set[str]:
    """Names of the parameters of normalization layers."""
    return {
        f"{module_name}.{name}".lstrip(".")
        for module_name, module in model.named_modules()
        if "norm" in type(module).__name__.lower()
        for name, _ in module.named_parameters(recurse=False)
    }


def mixture_of(config: PreTrainedConfig) -> tuple[int, int] | None:
    """Number of experts and experts a token of a mixture's configuration; None for a dense model."""
    text = config.get_text_config()
    num_experts = next((value for name in EXPERTS if (value := getattr(text, name, None))), None)
    top_k = next((value for name in CHOSEN_EXPERTS if (value := getattr(text, name, None))), None)
    if not isinstance(num_experts, int) or not isinstance(top_k, int) or num_experts <= 1:
        return None
    return num_experts, top_k


def active_parameters(model: PreTrainedModel) -> int:
    """Parameters that one token uses: all but the experts that it is not sent to. A tied weight counts once."""
    total = sum(parameter.numel() for parameter in model.parameters())
    mixture = mixture_of(model.config)
    if mixture is None:
        return total
    num_experts, top_k = mixture
    experts = sum(parameter.numel() for name, parameter in model.named_parameters() if ".experts." in name)
    return total - experts // num_experts * (num_experts - top_k)


def parameter_table(model: PreTrainedModel) -> dict[str, Any]:
    """Parameters by part: `{"total", "trainable", "parts": [{"name", "parameters", "share", "trainable"}]}`.

    A block is split into attention, mlp (in a mixture: experts and router) and norms. A tied weight counts once, where
    it first appears.
    """
    norms = norm_parameters(model)
    counts: dict[str, int] = {}
    trainable: dict[str, int] = {}
    for name, parameter in model.named_parameters():
        layer = layer_of(name, model.base_model_prefix)
        part = f"{layer}.{kind_of(name, layer, name in norms)}" if is_block(layer) else layer
        counts[part] = counts.get(part, 0) + parameter.numel()
        trainable[part] = trainable.get(part, 0) + (parameter.numel() if parameter.requires_grad else 0)
    total = sum(counts.values())
    parts = [
        {"name": name, "parameters": count, "share": round(count / total, 6), "trainable": trainable[name]}
        for name, count in counts.items()
    ]
    return {"total": total, "trainable": sum(trainable.values()), "parts": parts}


def kind_of(name: str, layer: str, is_norm: bool) -> str:
    """What a block's parameter is of: `attention`, `mlp`, `experts`, `router`, `norms`, or the word that it has."""
    inside = name.partition(f"{layer}.")[2]
    if is_norm:
        return "norms"
    if _ATTENTION.search(inside):
        return "attention"
    if "experts" in inside.split("."):
        return "experts"
    if _ROUTER.search(inside):
        return "router"
    return "mlp" if _FEED_FORWARD.search(inside) else inside.partition(".")[0]
