"""Gradients of a small Llama are those of TensorFlow's GradientTape, for a network written down anew."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from pipeline.modeling.module_hooks import record_modules

pytestmark = pytest.mark.slow

HEADS, WIDTH, LENGTH, VOCABULARY, THETA, EPSILON = 2, 16, 9, 40, 10000.0, 1e-6


def loss_in_tensorflow(tf: Any, weights: dict[str, Any], ids: Any, labels: Any, num_layers: int) -> Any:
    """Embedding; blocks of RMSNorm, causal attention with rotary positions, RMSNorm and a gated mlp; RMSNorm, head and
    mean cross-entropy: Touvron et al. 2023, "LLaMA", section 2.2."""
    size = WIDTH // HEADS
    angles = np.arange(LENGTH)[:, None] / THETA ** (np.arange(0, size, 2) / size)
    cosine, sine = (tf.constant(np.concatenate([one, one], -1), tf.float32) for one in (np.cos(angles), np.sin(angles)))
    is_future = tf.constant(np.triu(np.full((LENGTH, LENGTH), -1e9), 1), tf.float32)

    def linear(name: str, x: Any) -> Any:
        return tf.einsum("...i,oi->...o", x, weights[f"{name}.weight"])

    def norm(name: str, x: Any) -> Any:
        return weights[f"{name}.weight"] * x / tf.sqrt(tf.reduce_mean(x * x, -1, keepdims=True) + EPSILON)

    def heads(x: Any) -> Any:
        return tf.transpose(tf.reshape(x, (-1, LENGTH, HEADS, size)), (0, 2, 1, 3))

    def rotated(x: Any) -> Any:
        first, second = tf.split(x, 2, -1)
        return x * cosine + tf.concat([-second, first], -1) * sine

    x = tf.gather(weights["model.embed_tokens.weight"], ids)
    for layer in range(num_layers):
        at = f"model.layers.{layer}."
        y = norm(f"{at}input_layernorm", x)
        query, key, value = (heads(linear(f"{at}self_attn.{one}_proj", y)) for one in "qkv")
        scores = tf.einsum("bhqd,bhkd->bhqk", rotated(query), rotated(key)) / math.sqrt(size) + is_future
        seen = tf.transpose(tf.einsum("bhqk,bhkd->bhqd", tf.nn.softmax(scores), value), (0, 2, 1, 3))
        x += linear(f"{at}self_attn.o_proj", tf.reshape(seen, (-1, LENGTH, WIDTH)))
        y = norm(f"{at}post_attention_layernorm", x)
        gate = linear(f"{at}mlp.gate_proj", y)
        x += linear(f"{at}mlp.down_proj", gate * tf.sigmoid(gate) * linear(f"{at}mlp.up_proj", y))
    logits = linear("lm_head", norm("model.norm", x))
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))


def test_gradients_are_those_of_gradient_tape() -> None:
    tf = pytest.importorskip("tensorflow")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=WIDTH, intermediate_size=32, num_hidden_layers=3, num_attention_heads=HEADS,
        rms_norm_eps=EPSILON, rope_parameters={"rope_type": "default", "rope_theta": THETA}, initializer_range=0.2,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    random = np.random.default_rng(0)
    ids, labels = (random.integers(0, VOCABULARY, (4, LENGTH)) for _ in range(2))

    def loss() -> torch.Tensor:
        logits = model(input_ids=torch.from_numpy(ids), use_cache=False).logits
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), torch.from_numpy(labels).flatten())

    named = dict(model.named_parameters())
    found = record_modules(model, {}, loss, [*named.values()])
    weights = {name: tf.Variable(parameter.detach().numpy()) for name, parameter in named.items()}
    with tf.GradientTape() as tape:
        of_tensorflow = loss_in_tensorflow(tf, weights, ids, labels, 3)
    assert found.loss.item() == pytest.approx(float(of_tensorflow), rel=1e-6)
    gradients = tape.gradient(of_tensorflow, weights)
    for (name, _), own in zip(named.items(), found.parameter_gradients, strict=True):
        other = tf.convert_to_tensor(gradients[name]).numpy()
        assert own is not None
        assert np.linalg.norm(own.numpy() - other) <= 1e-5 * np.linalg.norm(other), name
