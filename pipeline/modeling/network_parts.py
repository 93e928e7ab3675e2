"""The parts of a network through which a batch passes, in words that fit every architecture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import nn
from transformers import PreTrainedModel

from pipeline.modeling.layer_names import matrix_name
from pipeline.modeling.parameters import blocks, kind_of, norm_parameters

PartKind = Literal["embedding", "attention", "mlp", "block", "norm", "head"]


@dataclass(frozen=True)
class NetworkPart:
    """A module that is a part, with its kind."""

    module: nn.Module
    kind: PartKind


def network_parts(model: PreTrainedModel) -> dict[str, NetworkPart]:
    """The embedding of tokens, each block with its attention and its mlp (or mixture of experts), the norm behind the
    blocks and the head, by name without the backbone's prefix."""
    prefix = model.base_model_prefix
    names = {id(module): matrix_name(name, prefix) for name, module in model.named_modules()}
    found: dict[str, NetworkPart] = {}

    def add(module: nn.Module | None, kind: PartKind) -> None:
        if module is not None and id(module) in names:
            found.setdefault(names[id(module)], NetworkPart(module, kind))

    add(model.get_input_embeddings(), "embedding")
    for layer, block in blocks(model).items():
        norms = {f"{layer}.{name}" for name in norm_parameters(block)}
        for name, child in block.named_children():
            parameter = next((f"{layer}.{name}.{one}" for one, _ in child.named_parameters()), None)
            kind = None if parameter is None else kind_of(parameter, layer, parameter in norms)
            if kind == "attention":
                add(child, "attention")
            elif kind in ("mlp", "experts", "router"):
                add(child, "mlp")
        add(block, "block")
    inside = [module for block in blocks(model).values() for module in block.modules()]
    for module in model.base_model.children():
        if "norm" in type(module).__name__.lower() and module not in inside:
            add(module, "norm")
    heads = [module for module in model.children() if module is not model.base_model]
    add(model.get_output_embeddings() or (heads[-1] if heads else None), "head")
    return found
