"""The gradients of a Llama by TensorFlow's GradientTape, for a network written down anew. A program for an environment
of its own: test_tensorflow.py makes it and runs this there."""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np
import tensorflow as tf

HEADS, WIDTH, LENGTH, VOCABULARY, THETA, EPSILON = 2, 16, 9, 40, 10000.0, 1e-6


def loss_in_tensorflow(weights: dict[str, Any], ids: Any, labels: Any, num_layers: int) -> Any:
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


def main(given: str, found: str) -> None:
    """Weights by name, `ids` and `labels` from one file of arrays; the loss and the gradient of each weight into
    another."""
    arrays = dict(np.load(given))
    ids, labels = arrays.pop("ids"), arrays.pop("labels")
    weights = {name: tf.Variable(array) for name, array in arrays.items()}
    num_layers = 1 + max(int(name.split(".")[2]) for name in weights if name.startswith("model.layers."))
    with tf.GradientTape() as tape:
        loss = loss_in_tensorflow(weights, ids, labels, num_layers)
    gradients = tape.gradient(loss, weights)
    np.savez(found, loss=loss.numpy(), **{name: tf.convert_to_tensor(one).numpy() for name, one in gradients.items()})


if __name__ == "__main__":
    main(*sys.argv[1:])
