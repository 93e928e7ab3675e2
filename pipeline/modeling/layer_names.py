"""Names for the layers of a model, from the names of its parameters. Imports nothing heavy."""

from __future__ import annotations

import re

_BLOCK = re.compile(r"(?:[^.\d][^.]*\.)+?\d+(?=\.)")

WRAPPED = "base_model."
"""What peft's wrapper of a learned prompt puts before the names of the model inside."""


def layer_of(name: str, base_prefix: str = "") -> str:
    """The layer that a parameter belongs to: `model.layers.3.mlp.up_proj.weight` -> `layers.3`.

    `base_prefix` is the architecture's name for its backbone (`model`, `transformer`), which is left out.
    Parameters outside the numbered blocks belong to their own module: `embed_tokens`, `norm`, `lm_head`.
    """
    short = _inside(name, base_prefix)
    block = _BLOCK.match(short)
    return block.group() if block else short.rpartition(".")[0] or short


def matrix_name(name: str, base_prefix: str = "") -> str:
    """A parameter's name in records: `model.layers.3.mlp.up_proj.weight` -> `layers.3.mlp.up_proj`. What is no
    `weight`, such as a bias, keeps its last word."""
    return _inside(name, base_prefix).removesuffix(".weight")


def layer_of_matrix(name: str) -> str:
    """The layer of a `matrix_name`: `layers.3.mlp.up_proj` -> `layers.3`, `lm_head.bias` -> `lm_head`."""
    block = _BLOCK.match(f"{name}.")
    return block.group() if block else name.removesuffix(".bias")


def is_block(layer: str) -> bool:
    """Whether a layer is one of the numbered blocks, which share one shape."""
    return layer.rpartition(".")[2].isdigit()


def _inside(name: str, base_prefix: str) -> str:
    name = name.removeprefix(WRAPPED)
    return name.removeprefix(f"{base_prefix}.") if base_prefix else name
