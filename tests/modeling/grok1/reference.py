"""Grok-1's forward pass in plain numpy and float64, written from the description of the release, not from our model.

`Variant` changes one detail at a time into what it is often mistaken for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Variant:
    exact_gelu: bool = False
    renormalized: bool = False
    cap_before_multiplier: bool = False
    interleaved_rotary: bool = False
    eps: float = 1e-5
    tiled_heads: bool = False


def forward(settings: Any, weights: dict[str, np.ndarray], ids: np.ndarray, variant: Variant) -> dict[str, Any]:
    """Logits [batch, length, vocabulary], and one entry a layer of `attention` and `moe` (the branches before
    their second norm) and `router` (probabilities of all experts)."""
    weights = {name: values.astype(np.float64) for name, values in weights.items()}
    batch, length = ids.shape
    table = weights["model.embed_tokens.weight"]
    stream = table[ids] * math.sqrt(settings.hidden_size)
    causal = np.tril(np.ones((length, length), bool))
    visible = causal[None] & (ids > 0)[:, None, :]
    seen: dict[str, Any] = {"attention": [], "moe": [], "router": []}
    for index in range(settings.num_hidden_layers):
        layer = {
            name.removeprefix(f"model.layers.{index}."): values
            for name, values in weights.items()
            if name.startswith(f"model.layers.{index}.")
        }
        normed = rms_norm(stream, layer["pre_attn_norm.weight"], variant.eps)
        branch = attention(settings, layer, normed, visible, variant)
        seen["attention"].append(branch)
        stream = stream + rms_norm(branch, layer["post_attn_norm.weight"], variant.eps)
        normed = rms_norm(stream, layer["pre_moe_norm.weight"], variant.eps)
        branch, probabilities = mixture(settings, layer, normed.reshape(batch * length, -1), variant)
        seen["moe"].append(branch.reshape(stream.shape))
        seen["router"].append(probabilities)
        stream = stream + rms_norm(seen["moe"][-1], layer["post_moe_norm.weight"], variant.eps)
    hidden = rms_norm(stream, weights["model.norm.weight"], variant.eps)
    return {"logits": hidden @ table.T * (1 / math.sqrt(3)), **seen}


def rms_norm(values: np.ndarray, scale: np.ndarray, eps: float) -> np.ndarray:
    return values / np.sqrt((values**2).mean(-1, keepdims=True) + eps) * scale


def attention(
    settings: Any, layer: dict[str, np.ndarray], x: np.ndarray, visible: np.ndarray, variant: Variant
) -> np.ndarray:
    batch, length, _ = x.shape
    size, heads, kv_heads = settings.head_dim, settings.num_attention_heads, settings.num_key_value_heads
    query = (x @ layer["self_attn.q_proj.weight"].T).reshape(batch, length, heads, size)
    key = (x @ layer["self_attn.k_proj.weight"].T).reshape(batch, length, kv_heads, size)
    value = (x @ layer["self_attn.v_proj.weight"].T).reshape(batch, length, kv_heads, size)
    query, key = rotary(query, variant), rotary(key, variant)
    mixed = np.zeros((batch, length, heads, size))
    for head in range(heads):
        shared = head % kv_heads if variant.tiled_heads else head // (heads // kv_heads)
        scores = np.einsum("btd,bsd->bts", query[:, :, head], key[:, :, shared])
        multiplier = 1 / math.sqrt(size)
        if variant.cap_before_multiplier:
            scores = 30 * np.tanh(scores / 30) * multiplier
        else:
            scores = 30 * np.tanh(scores * multiplier / 30)
        scores = np.where(visible, scores, -1e30)
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        shares /= shares.sum(-1, keepdims=True)
        mixed[:, :, head] = np.einsum("bts,bsd->btd", shares, value[:, :, shared])
    return mixed.reshape(batch, length, heads * size) @ layer["self_attn.o_proj.weight"].T


def rotary(x: np.ndarray, variant: Variant) -> np.ndarray:
    length, size = x.shape[1], x.shape[-1]
    frequencies = 10000.0 ** (-2 * np.arange(size // 2) / size)
    angles = (np.arange(length)[:, None] * frequencies)[None, :, None]
    first, second = (x[..., ::2], x[..., 1::2]) if variant.interleaved_rotary else np.split(x, 2, axis=-1)
    turned = (first * np.cos(angles) - second * np.sin(angles), second * np.cos(angles) + first * np.sin(angles))
    if variant.interleaved_rotary:
        return np.stack(turned, axis=-1).reshape(x.shape)
    return np.concatenate(turned, axis=-1)


def mixture(
    settings: Any, layer: dict[str, np.ndarray], x: np.ndarray, variant: Variant
) -> tuple[np.ndarray, np.ndarray]:
    logits = x @ layer["moe.router.weight"].T
    probabilities = np.exp(logits - logits.max(-1, keepdims=True))
    probabilities /= probabilities.sum(-1, keepdims=True)
    output = np.zeros_like(x)
    for token, row in enumerate(probabilities):
        chosen = np.argsort(-row)[: settings.num_experts_per_tok]
        shares = row[chosen] / row[chosen].sum() if variant.renormalized else row[chosen]
        for expert, share in zip(chosen, shares, strict=True):
            gate, up = np.split(layer["moe.experts.gate_up_proj"][expert], 2)
            inner = gelu(gate @ x[token], variant) * (up @ x[token])
            output[token] += share * (layer["moe.experts.down_proj"][expert] @ inner)
    return output, probabilities


def gelu(x: np.ndarray, variant: Variant) -> np.ndarray:
    if variant.exact_gelu:
        return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
