"""What fresh weights do to the scale of activations and gradients, and that they train."""

from __future__ import annotations

import pytest
import torch
from modeling.grok1.tiny import initialized

from pipeline.modeling.grok1 import Grok1ForSequenceClassification


def scales(model, ids: torch.Tensor, labels: torch.Tensor) -> tuple[list[float], list[float]]:
    """Root mean squares of the stream behind the embedding and behind each layer, and of the gradients there."""
    streams: list[torch.Tensor] = []

    def keep(_, inputs, output):
        for tensor in (*inputs[: 0 if streams else 1], output):
            tensor.retain_grad()
            streams.append(tensor)

    hooks = [layer.register_forward_hook(keep) for layer in model.model.layers]
    model(input_ids=ids, labels=labels, use_cache=False).loss.backward()
    for hook in hooks:
        hook.remove()
    activations = [float(stream.detach().square().mean().sqrt()) for stream in streams]
    return activations, [float(stream.grad.square().mean().sqrt()) for stream in streams]


@pytest.mark.parametrize("width", [64, 128])
def test_scales_stay_within_a_factor_of_3_through_32_layers(width):
    model = initialized(
        hidden_size=width, num_hidden_layers=32, num_attention_heads=4, head_dim=width // 4, vocab_size=256
    )
    generator = torch.Generator().manual_seed(4)
    ids, labels = torch.randint(1, 256, (2, 4, 64), generator=generator)
    activations, slopes = scales(model, ids, labels)
    assert len(activations) == 33
    assert max(activations) / min(activations) < 3
    assert max(slopes) / min(slopes) < 3


def test_the_stated_variances():
    model = initialized(hidden_size=128, num_hidden_layers=4, vocab_size=512, num_attention_heads=8, head_dim=16)
    config = model.config
    layer = model.model.layers[1]
    expected = {
        model.model.embed_tokens.weight: (2 * 4 / 128) ** 0.5,
        layer.self_attn.q_proj.weight: 0.5 / 128**0.5,
        layer.self_attn.v_proj.weight: 1 / 128**0.5,
        layer.moe.router.weight: (0.1 / 128) ** 0.5,
        layer.moe.experts.gate_up_proj: 1 / 128**0.5,
        layer.moe.experts.down_proj: 1 / config.intermediate_size**0.5,
    }
    for weight, deviation in expected.items():
        # The standard deviation of n draws is off by one part in sqrt(2 n); five of those are allowed.
        assert float(weight.detach().std()) == pytest.approx(deviation, rel=5 / (2 * weight.numel()) ** 0.5)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert all(bool((p == 1).all()) for name, p in model.named_parameters() if "norm" in name)


def test_the_scale_of_embeddings_can_be_given():
    model = initialized(Grok1ForSequenceClassification, embedding_init_scale=1.0, hidden_size=64, vocab_size=512)
    stream = model.model.embed_tokens.weight.detach() * model.config.embedding_multiplier
    assert float(stream.square().mean().sqrt()) == pytest.approx(1.0, rel=0.03)
