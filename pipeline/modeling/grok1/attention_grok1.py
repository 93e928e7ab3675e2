# mypy: disable-error-code="misc, untyped-decorator"
"""Norm, rotary positions and soft-capped attention of Grok-1. This file travels with exported models."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from transformers import masking_utils
from transformers.cache_utils import Cache
from transformers.masking_utils import BlockMask, packed_sequence_mask_function
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS, dynamic_rope_update
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from .compat_grok1 import create_causal_mask, maybe_autocast
from .configuration_grok1 import Grok1Config

MASKED_SCORE = -1e30
"""The score of a hidden key. Finite, so that a row without visible keys weighs all keys alike instead of being NaN."""


def at_least_float32(values: torch.Tensor) -> torch.Tensor:
    """The values in float32, or as they are when they are more precise."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


class Grok1RMSNorm(nn.Module):
    """`v / sqrt(mean(v^2) + eps) * weight`, in float32."""

    def __init__(self, hidden_size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size))
        self.eps = eps

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        values = at_least_float32(hidden_states)
        values = values * torch.rsqrt(values.square().mean(-1, keepdim=True) + self.eps)
        return (values * at_least_float32(self.weight)).to(hidden_states.dtype)

    def extra_repr(self) -> str:
        return f"{tuple(self.weight.shape)}, eps={self.eps}"


class Grok1RotaryEmbedding(nn.Module):
    """Cosines and sines of rotary angles, float32 [batch, length, head_dim], for channels j and j + head_dim / 2."""

    def __init__(self, config: Grok1Config) -> None:
        super().__init__()
        self.config = config
        self.max_seq_len_cached = self.original_max_seq_len = config.max_position_embeddings
        assert isinstance(config.rope_parameters, dict)
        self.rope_type: str = config.rope_parameters["rope_type"]
        compute: Callable = self.compute_default_rope_parameters
        if self.rope_type != "default":
            compute = ROPE_INIT_FUNCTIONS[self.rope_type]
        inv_freq, self.attention_scaling = compute(config)
        self.inv_freq = nn.Buffer(inv_freq, persistent=False)
        self.original_inv_freq = nn.Buffer(inv_freq.clone(), persistent=False)

    @staticmethod
    def compute_default_rope_parameters(config: Grok1Config, **kwargs: Any) -> tuple[torch.Tensor, float]:
        """Inverse frequencies of RoPE (arXiv 2104.09864), and the factor of cosines and sines, which is 1."""
        assert isinstance(config.rope_parameters, dict)
        channels = torch.arange(0, config.head_dim, 2, dtype=torch.float32)
        return config.rope_parameters["rope_theta"] ** (-channels / config.head_dim), 1.0

    @torch.no_grad()
    @dynamic_rope_update
    def forward(self, hidden_states: torch.Tensor, position_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        with maybe_autocast(hidden_states.device.type, enabled=False):
            angles = position_ids[..., None].float() * self.inv_freq.float().to(hidden_states.device)
            angles = torch.cat((angles, angles), dim=-1)
            return angles.cos() * self.attention_scaling, angles.sin() * self.attention_scaling


def rotate(values: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Turn each pair (j, j + d/2) of the last dimension of [batch, heads, length, d] by its angle."""
    wide = at_least_float32(values)
    first, second = wide.chunk(2, dim=-1)
    turned = wide * cos[:, None] + torch.cat((-second, first), dim=-1) * sin[:, None]
    return turned.to(values.dtype)


def eager_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    softcap: float,
    **kwargs: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Soft-capped attention: [batch, length, heads, head_dim], and weights [batch, heads, length, keys].

    Query head i sees key and value head i // num_key_value_groups. The multiplier comes before the cap.
    """
    groups = module.num_key_value_groups
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    scores = at_least_float32(query @ key.transpose(2, 3))
    scores = softcap * torch.tanh(scores * (scaling / softcap))
    if attention_mask is not None:
        visible = attention_mask if attention_mask.dtype == torch.bool else attention_mask == 0
        scores = scores.masked_fill(~visible, MASKED_SCORE)
    weights = scores.softmax(-1).to(value.dtype)
    return (weights @ value).transpose(1, 2).contiguous(), weights


class Grok1QueryKeyProjection(nn.Linear):
    """A linear map of its own kind, because it is initialized in its own way."""


class Grok1Attention(nn.Module):
    """Grouped-query attention with rotary positions and a soft cap on its scores."""

    def __init__(self, config: Grok1Config, layer_idx: int) -> None:
        super().__init__()
        self.config = config
        self.layer_idx = layer_idx
        self.is_causal = True
        self.head_dim = config.head_dim
        self.num_key_value_groups = config.num_attention_heads // config.num_key_value_heads
        query_width, key_width = (
            heads * config.head_dim for heads in (config.num_attention_heads, config.num_key_value_heads)
        )
        self.q_proj = Grok1QueryKeyProjection(config.hidden_size, query_width, bias=False)
        self.k_proj = Grok1QueryKeyProjection(config.hidden_size, key_width, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, key_width, bias=False)
        self.o_proj = nn.Linear(query_width, config.hidden_size, bias=False)

    def forward(
        self,
        hidden_states: torch.Tensor,
        position_embeddings: tuple[torch.Tensor, torch.Tensor],
        attention_mask: Any = None,
        past_key_values: Cache | None = None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        shape = (*hidden_states.shape[:-1], -1, self.head_dim)
        query, key, value = (
            projection(hidden_states).view(shape).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        query, key = rotate(query, *position_embeddings), rotate(key, *position_embeddings)
        if past_key_values is not None:
            key, value = past_key_values.update(key, value, self.layer_idx)
        name = self.config._attn_implementation
        if name == "flex_attention" and not isinstance(attention_mask, BlockMask):
            name = "eager"
        attention: Callable = ALL_ATTENTION_FUNCTIONS.get(name, eager_attention)
        output, weights = attention(
            self,
            query,
            key,
            value,
            attention_mask,
            dropout=0.0,
            scaling=self.config.attention_multiplier,
            softcap=self.config.attn_logit_softcapping,
            **kwargs,
        )
        return self.o_proj(output.reshape(*hidden_states.shape[:-1], -1)), weights


def attention_mask_for(
    config: Grok1Config,
    inputs_embeds: torch.Tensor,
    input_ids: torch.Tensor | None,
    attention_mask: Any,
    packed_positions: torch.Tensor | None,
    past_key_values: Cache | None,
) -> Any:
    """Causal, without padding tokens, within a document: in the form that the attention implementation takes.

    Where `packed_positions` start again, another document begins. A prepared mask of four dimensions stays as it is.
    """
    same_document = None
    if packed_positions is not None:
        # Looked up in its module, so that a caller who knows his rows can spare the device this look at them.
        documents = masking_utils.find_packed_sequence_indices(packed_positions.expand(inputs_embeds.shape[0], -1))
        same_document = None if documents is None else packed_sequence_mask_function(documents)
    if config._attn_implementation == "flex_attention" and inputs_embeds.device.type == "cpu":
        # There flex attention has no backward pass, and as torch 2.13 compiles it for AVX2 it is wrong at some lengths,
        # up to NaN. The form of the mask tells the layers.
        config = copy.copy(config)
        config._attn_implementation_internal = "eager"
    return create_causal_mask(
        config=config,
        inputs_embeds=inputs_embeds,
        attention_mask=visible_keys(config, input_ids, attention_mask, past_key_values),
        past_key_values=past_key_values,
        and_mask_function=same_document,
    )


def visible_keys(config: Grok1Config, input_ids: torch.Tensor | None, attention_mask: Any, cache: Cache | None) -> Any:
    """`attention_mask` without the padding tokens: [batch, keys], or what was given where it has another form."""
    pad = config.pad_token_id if config.mask_pad_tokens else None
    if input_ids is None or pad is None or (attention_mask is not None and attention_mask.ndim != 2):
        return attention_mask
    visible = input_ids != pad
    if attention_mask is not None:
        length = input_ids.shape[1]
        mask = attention_mask.to(device=visible.device, dtype=torch.bool)
        return torch.cat((mask[:, :-length], mask[:, -length:] & visible), dim=1)
    if cache is None:
        return visible
    # Which of the cached keys are padding is only known here, where their ids go by.
    seen = int(cache.get_seq_length())
    earlier = getattr(cache, "visible_keys", visible[:, :0])[:, :seen]
    if earlier.shape != (visible.shape[0], seen):
        earlier = visible.new_ones(visible.shape[0], seen)
    cache.visible_keys = torch.cat((earlier, visible), dim=1)
    return cache.visible_keys
