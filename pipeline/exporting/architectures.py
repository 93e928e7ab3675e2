"""Which models llama.cpp computes as transformers does. It has some settings in code where transformers reads them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.errors import ConfigError

COMPARED = ("gpt2", "grok1", "llama", "mistral", "mixtral", "qwen3")
"""Architectures whose log-probabilities in llama.cpp are compared with transformers' in the tests."""

IN_CODE: dict[str, dict[str, tuple[Any, ...]]] = {
    "gpt2": {
        "activation_function": ("gelu_new", "gelu_pytorch_tanh"),
        "scale_attn_weights": (True,),
        "scale_attn_by_inverse_layer_idx": (False,),
    },
    "grok1": {"hidden_act": ("gelu_pytorch_tanh",)},
    "llama": {"hidden_act": ("silu",)},
    "mistral": {"hidden_act": ("silu",)},
    "mixtral": {"hidden_act": ("silu",)},
    "qwen3": {"hidden_act": ("silu",), "attention_bias": (False,)},
    "qwen3_moe": {"norm_topk_prob": (True,)},
}
"""Settings for which it has one value, or names of one."""

ROPE_TYPES = {
    "llama": ("default", "linear", "llama3", "yarn"),
    "mistral": ("default", "linear", "llama3", "yarn"),
    "mixtral": ("default", "linear", "llama3"),
    "qwen3": ("default", "linear", "yarn"),
}
"""What it takes of rotary positions; `default` and `linear` of others."""

OF_YARN = {"rope_type", "type", "rope_theta", "factor", "original_max_position_embeddings"}
"""Settings of yarn that it takes. Of the others it has values in code."""


def check_settings(values: Mapping[str, Any]) -> None:
    """Raises ConfigError for settings of a model's configuration that llama.cpp would overlook."""
    kind = values["model_type"]
    for name, allowed in IN_CODE.get(kind, {}).items():
        if values.get(name, allowed[0]) not in allowed:
            raise _overlooked(kind, name, values[name], f"{allowed[0]} alone")
    rope = values.get("rope_parameters") or {}
    known = ROPE_TYPES.get(kind, ("default", "linear"))
    if kind in COMPARED and rope.get("rope_type", "default") not in known:
        raise _overlooked(kind, "rope_parameters.rope_type", rope["rope_type"], " or ".join(known))
    for name in sorted(rope) if kind in COMPARED and rope.get("rope_type") == "yarn" else ():
        if rope[name] is not None and name not in OF_YARN:
            raise _overlooked(kind, f"rope_parameters.{name}", rope[name], "its default alone")
    window, length = values.get("sliding_window"), values.get("max_position_embeddings")
    if kind in COMPARED and window and values.get("use_sliding_window", True) and window < (length or 0):
        raise _overlooked(kind, "sliding_window", window, "null alone")
    if kind == "gpt2" and values.get("n_inner") not in (None, 4 * values["n_embd"]):
        raise _overlooked(kind, "n_inner", values["n_inner"], "4 times n_embd alone")
    if kind == "grok1":
        experts, width = values["num_local_experts"], values["num_attention_heads"] * values["head_dim"]
        if experts < 2:
            raise _overlooked(kind, "num_local_experts", experts, "2 or more")
        if width != values["hidden_size"]:
            raise _overlooked(kind, "head_dim", values["head_dim"], "hidden_size / num_attention_heads alone")


def _overlooked(kind: str, name: str, value: Any, allowed: str) -> ConfigError:
    return ConfigError(
        f"model.config.{name} {value}: llama.cpp's {kind} takes {allowed}, so the file would compute something else; "
        "train with that, or use the model with transformers"
    )
