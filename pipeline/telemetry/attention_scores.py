"""How sharply a model's attention looks, measured beside it: the pass itself stays what it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers.modeling_utils import AttentionInterface

from pipeline.modeling.inputs import replaced
from pipeline.modeling.module_hooks import tokens_among

MOST_QUERIES = 128
"""Of each sequence so many are looked at, evenly spread and the last among them. Bounds time and memory."""

UNKNOWN = ("position_bias", "head_mask", "sinks", "cu_seq_lens_q")
"""Arguments that change scores in ways that are not followed here."""

BIAS, MASK = "attention_bias", "attention_mask"
"""Why scores cannot be followed: a name of `unmeasured.REASONS`."""


@dataclass(frozen=True)
class AttentionSums:
    """Of one call of a layer's attention, on the device.

    `entropies`: by head, summed over the queries that see at least two keys, each over the entropy of looking evenly at
    all keys that it sees: 1 is even, 0 is one key alone. A head's sink, which it can look at in the place of keys, is
    one of them. `num_queries`: how many they are, by head. `largest_logit`: the largest absolute score of a visible
    key, before a cap.
    """

    entropies: torch.Tensor
    num_queries: torch.Tensor
    largest_logit: torch.Tensor


@contextmanager
def watching_attention(
    take: Callable[[nn.Module, AttentionSums | str], None], tokens: torch.Tensor | None
) -> Iterator[None]:
    """Give `take` what each layer's attention looks at while the block runs, whatever computes it.

    Where scores cannot be followed it gets BIAS or MASK. Layers that do not go through transformers' interface are not
    heard of. `tokens` (B, T) tells padding from tokens.
    """

    def watched(original: Callable[..., Any]) -> Callable[..., Any]:
        def attention(module: nn.Module, query: Any, key: Any, *args: Any, **kwargs: Any) -> Any:
            mask = args[1] if len(args) > 1 else kwargs.get("attention_mask")
            take(module, attention_sums(module, query, key, mask, kwargs, tokens))
            return original(module, query, key, *args, **kwargs)

        return attention

    chosen, chosen_or = AttentionInterface.get_interface, AttentionInterface.get

    def get_interface(self: Any, name: str, default: Any) -> Any:
        return watched(chosen(self, name, default))

    def get(self: Any, name: str, default: Any = None) -> Any:
        return watched(chosen_or(self, name, default))

    with replaced(AttentionInterface, "get_interface", get_interface), replaced(AttentionInterface, "get", get):
        yield


@torch.no_grad()
def attention_sums(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    mask: Any,
    settings: Mapping[str, Any],
    tokens: torch.Tensor | None = None,
) -> AttentionSums | str:
    """What queries (B, H, T, D) see of keys (B, H / groups, K, D), with the arguments of transformers' attention
    functions. BIAS or MASK where the scores cannot be followed."""
    is_followed = query.ndim == key.ndim == 4 and query.shape[1] % key.shape[1] == 0
    sinks = settings.get("s_aux")
    is_followed = is_followed and (sinks is None or sinks.numel() == query.shape[1])
    if not is_followed or any(settings.get(name) is not None for name in UNKNOWN):
        return BIAS
    length, num_keys = query.shape[2], key.shape[2]
    stride = -(-length // MOST_QUERIES)
    chosen = torch.arange((length - 1) % stride, length, stride, device=query.device)
    seen = _visible(module, mask, settings, chosen, length, num_keys, query.device)
    if seen is None:
        return MASK
    visible, added = seen
    grouped = query[:, :, chosen].float().unflatten(1, (key.shape[1], -1))
    scores = (grouped @ key.float().unsqueeze(2).transpose(-1, -2)).flatten(1, 2)
    scaling = settings.get("scaling")
    scores = scores * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    if added is not None:
        scores = scores + added
    largest = scores.abs().where(visible, 0.0).amax()
    if (cap := settings.get("softcap")) is not None:
        scores = cap * torch.tanh(scores / cap)
    if sinks is not None:
        scores = torch.cat([scores, sinks.float().view(1, -1, 1, 1).expand(*scores.shape[:-1], 1)], dim=-1)
        visible = functional.pad(visible, (0, 1), value=True)
    num_visible = visible.sum(-1)
    counted = (num_visible >= 2).expand(scores.shape[:-1])
    if tokens is not None:
        counted = counted & tokens_among(tokens, length)[:, None, chosen]
    logs = scores.masked_fill(~visible, -torch.inf).log_softmax(-1).where(visible, 0.0)
    entropy = -(logs.exp().where(visible, 0.0) * logs).sum(-1) / num_visible.clamp(min=2).log()
    return AttentionSums(
        entropy.where(counted, 0.0).sum((0, 2), dtype=torch.float64),
        counted.sum((0, 2), dtype=torch.float64),
        largest.double(),
    )


def _visible(
    module: nn.Module,
    mask: Any,
    settings: Mapping[str, Any],
    chosen: torch.Tensor,
    length: int,
    num_keys: int,
    device: torch.device,
) -> tuple[torch.Tensor, torch.Tensor | None] | None:
    """Which keys the chosen queries see, (B or 1, H or 1, chosen, K) bool, and what the mask adds to scores; None where
    the mask is of another kind."""
    if isinstance(mask, torch.Tensor) and mask.ndim == 4:
        mask = mask[:, :, chosen if mask.shape[2] == length else slice(None), :num_keys]
        if mask.dtype == torch.bool:
            return mask, None
        is_seen = mask > torch.finfo(mask.dtype).min / 2
        return is_seen, mask.float().where(is_seen, 0.0)
    if mask is not None and not (isinstance(mask, torch.Tensor) and mask.ndim == 2):
        return None
    keys = torch.arange(num_keys, device=device)
    is_causal = settings.get("is_causal")
    distance = (chosen + num_keys - length)[:, None] - keys[None]
    visible = torch.ones_like(distance, dtype=torch.bool)
    if getattr(module, "is_causal", True) if is_causal is None else is_causal:
        visible = distance >= 0
    if (window := settings.get("sliding_window")) is not None:
        visible = visible & (distance.abs() < window)
    visible = visible[None, None]
    return (visible if mask is None else visible & mask[:, None, None, -num_keys:].bool()), None
