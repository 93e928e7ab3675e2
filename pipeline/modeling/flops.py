"""Floating-point operations of a model, counted from the shapes of its weights: works on the meta device too."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from pipeline.modeling.parameters import mixture_of


def forward_flops_per_token(model: PreTrainedModel, length: int) -> float:
    """Floating-point operations of a forward pass over sequences of `length` tokens, for each token.

    Two (a multiplication and an addition) for each weight that a token meets, and 2 * length * channels a layer for
    each of attention's two products. As in the usual definition (Chowdhery et al. 2022, "PaLM", appendix B) attention
    counts in full although half of it is masked, and norms, activations and the optimizer, which are small, do not.
    """
    weights = sum(2 * share * weight.numel() for weight, share in _products(model))
    return weights + attention_flops_per_token(model.config, length)


def training_flops_per_token(model: PreTrainedModel, length: int) -> float:
    """Floating-point operations of forward and backward passes over sequences of `length` tokens, for each token.

    The backward pass costs one forward pass for the gradients of activations and one for those of weights, the
    latter without frozen weights: 6 N + 12 * layers * channels * length in a dense model of N weights in products.
    What gradient checkpointing computes again is not counted: it is no progress.
    """
    forward = forward_flops_per_token(model, length)
    of_weights = sum(2 * share * weight.numel() for weight, share in _products(model) if weight.requires_grad)
    return 2 * forward + of_weights + attention_flops_per_token(model.config, length)


def attention_flops_per_token(config: PreTrainedConfig, length: int) -> float:
    """Those of the two products of attention, queries by keys and weights by values, in a forward pass."""
    text = config.get_text_config()
    kinds = getattr(text, "layer_types", None) or ["full_attention"] * text.num_hidden_layers
    # A few architectures have sizes of their own in each layer.
    layers = text.per_layer_config if text.is_heterogeneous else [text] * len(kinds)
    return sum(_layer_attention_flops(layer, kind, length) for layer, kind in zip(layers, kinds, strict=True))


def _layer_attention_flops(text: PreTrainedConfig, kind: str, length: int) -> float:
    heads = getattr(text, "num_attention_heads", None)
    if not heads:
        return 0.0
    head_size = getattr(text, "head_dim", None) or text.hidden_size // heads
    # Multi-head latent attention has sizes of its own.
    keys = (getattr(text, "qk_nope_head_dim", None) or 0) + (getattr(text, "qk_rope_head_dim", None) or 0)
    channels = heads * ((keys or head_size) + (getattr(text, "v_head_dim", None) or head_size))
    window = getattr(text, "sliding_window", None) or length
    reach = {"full_attention": length, "sliding_attention": min(length, window)}
    return 2.0 * channels * reach.get(kind, 0)


def _products(model: PreTrainedModel) -> Iterator[tuple[nn.Parameter, float]]:
    """Each weight that a token is multiplied with, and the share of tokens that meet it.

    That is every weight of two or more dimensions but the tables of embeddings, which are looked up. One that is tied
    to such a table is met as well, and counts where it is multiplied with.
    """
    mixture = mixture_of(model.config)
    share = 1.0 if mixture is None else mixture[1] / mixture[0]
    for path, module in model.named_modules():
        if isinstance(module, nn.Embedding):
            continue
        for name, weight in module.named_parameters(path, recurse=False):
            if weight.ndim >= 2 and not name.endswith("bias"):
                # Every token meets a shared expert and the router.
                yield weight, share if "experts" in name.split(".") else 1.0
