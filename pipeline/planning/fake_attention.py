"""Attention that keeps no scores, as an operation on tensors without data."""

from __future__ import annotations

from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from pipeline.errors import ConfigError

_WITH_MASK, _WITHOUT_MASK = "sdpa_without_data", "fused_without_data"
"""Names under which transformers finds the operation: torch's own attention is given every mask but the causal one as a
tensor, kernels for flex and flash attention are not."""


def set_attention(model: PreTrainedModel, wanted: str | None) -> None:
    """Let a model attend as `train.attn_implementation` says, or as it does by itself, as on a GPU. On the CPU torch
    computes scores where there is dropout or heads of keys and values differ.

    Raises ConfigError where the architecture cannot.
    """
    text = model.config.get_text_config()
    if wanted is not None:
        kind = "flash_attn" if wanted.startswith("flash") else {"flex_attention": "flex_attn"}.get(wanted, wanted)
        if not getattr(model, f"_supports_{kind}", True):
            raise ConfigError(f"train.attn_implementation: {text.model_type} cannot use {wanted}; take another one")
    if not model._can_set_attn_implementation():
        return
    own = {"eager": "eager", "sdpa": _WITH_MASK}
    model.set_attn_implementation(own.get(wanted or text._attn_implementation, _WITHOUT_MASK))


def attention_flops(query: Any, key: Any, value: Any, reach: Any, *rest: Any, **named: Any) -> int:
    """Those of its two products: multiplications and additions over all keys in reach."""
    batch, heads, length, width = query
    return int(2 * batch * heads * length * reach * (width + value[-1]))


@torch.library.custom_op("descent::attention", mutates_args=())
def _attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, reach: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """From queries (B, H, T, D), keys and values (B, G, T, ...) to the output (B, T, H, E), and a number for each row
    of scores, from which the backward pass computes them again."""
    raise NotImplementedError


@_attention.register_fake
def _attention_shapes(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, reach: int
) -> tuple[torch.Tensor, torch.Tensor]:
    batch, heads, length, _ = query.shape
    rows = query.new_empty(batch, heads, length, dtype=torch.float32)
    return query.new_empty(batch, length, heads, value.shape[-1]), rows


def _keep(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.save_for_backward(*inputs[:3], *output)


def _gradients(ctx: Any, *gradients: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, None]:
    query, key, value, _, _ = ctx.saved_tensors
    return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value), None


_attention.register_autograd(_gradients, setup_context=_keep)


def _attend(module: Any, query: Any, key: Any, value: Any, mask: Any, **settings: Any) -> tuple[torch.Tensor, None]:
    if torch.is_autocast_enabled("cpu"):
        lower = torch.get_autocast_dtype("cpu")
        query, key, value = query.to(lower), key.to(lower), value.to(lower)
    length = key.shape[2]
    output, _ = _attention(query, key, value, min(length, settings.get("sliding_window") or length))
    return output, None


for _name, _mask in ((_WITH_MASK, sdpa_mask), (_WITHOUT_MASK, lambda *args, **named: None)):
    ALL_ATTENTION_FUNCTIONS.register(_name, _attend)
    ALL_MASK_ATTENTION_FUNCTIONS.register(_name, _mask)
