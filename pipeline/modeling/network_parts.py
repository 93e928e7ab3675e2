"""The stations of a network in words that fit every architecture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import nn
from transformers import PreTrainedModel

from pipeline.modeling.parameters import kind_of
from pipeline.modeling.stations import stations_of

PartKind = Literal["embedding", "attention", "mlp", "block", "norm", "head"]


@dataclass(frozen=True)
class NetworkPart:
    """A station, its kind, and the block that it is in ("" outside of blocks)."""

    module: nn.Module
    kind: PartKind
    block: str


def network_parts(model: PreTrainedModel) -> dict[str, NetworkPart]:
    """The stations of a model by name. What is no attention in a block counts as its mlp, as a mixture of experts
    does; what has weights behind the blocks and is no norm, as a head."""
    stations = stations_of(model)
    parts: dict[str, NetworkPart] = {}
    has_passed_blocks = False
    for name, module in stations.outputs.items():
        block = next((one for one in stations.blocks if name.startswith(f"{one}.")), "")
        if name in stations.blocks:
            kind: PartKind = "block"
            has_passed_blocks = True
        elif block:
            kind = "attention" if kind_of(f"{name}.weight", block, is_norm=False) == "attention" else "mlp"
        elif "norm" in type(module).__name__.lower():
            kind = "norm"
        else:
            kind = "head" if has_passed_blocks else "embedding"
        parts[name] = NetworkPart(module, kind, block)
    return parts
