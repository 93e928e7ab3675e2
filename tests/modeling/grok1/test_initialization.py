"""What fresh weights do to the scale of activations and gradients, and that they train."""

from __future__ import annotations

import math
from pydoc_data.topics import topics

import pytest
import torch
from modeling.grok1.tiny import initialized
from torch.nn import functional

from pipeline.modeling.expert_loads import expert_load_sums, router_loss_sums
from pipeline.modeling.grok1 import Grok1Config, Grok1ForSequenceClassification
from pipeline.modeling.initial_scales import measure_scales
from pipeline.modeling.presets import PRESETS
from pipeline.tasks.causal_lm import CausalLm
from pipeline.telemetry.initial_verdicts import judge_start


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
    model.apply(model._init_weights)  # the rule of an untied head must not overwrite what it shares
    assert float(model.lm_head.weight.detach().std()) == pytest.approx((2 * 4 / 128) ** 0.5, rel=0.02)
    assert all(bool((p == 1).all()) for name, p in model.named_parameters() if "norm" in name)


def test_the_scale_of_embeddings_can_be_given():
    model = initialized(Grok1ForSequenceClassification, embedding_init_scale=1.0, hidden_size=64, vocab_size=512)
    stream = model.model.embed_tokens.weight.detach() * model.config.embedding_multiplier
    assert float(stream.square().mean().sqrt()) == pytest.approx(1.0, rel=0.03)


@pytest.mark.parametrize(("name", "vocab_size"), [("grok1-tiny", 4096), ("grok1-314b", 131072)])
def test_the_presets_begin_near_a_guess(name, vocab_size):
    """The tied head finds the input token in the stream, of which it is a part of s^2 in s^2 + 2 layers."""
    config = Grok1Config(**PRESETS[name].config)
    scale, branches = config.embedding_init_scale, 2 * config.num_hidden_layers
    logit = config.output_multiplier * config.hidden_size**0.5 * scale**2 / (scale**2 + branches) ** 0.5
    assert logit < math.log(vocab_size)


def test_this_projects_own_table_finds_them_healthy():
    model = initialized(hidden_size=64, num_hidden_layers=32, vocab_size=256)
    measured = measure_scales(model, 0, CausalLm().start_loss)
    norms = [layer["grad_norm"] for layer in measured["layers"].values()]
    assert max(norms) / min(norms) < 3
    # Embeddings this large in a model this narrow let the tied head find its input again: the loss is above guessing.
    assert {found.what: found.verdict for found in judge_start(measured)} == {
        "loss_at_the_start": "critical",
        "activations_at_the_start": "healthy",
        "gradients_at_the_start": "healthy",
    }


@pytest.mark.slow
def test_200_steps_lower_the_loss_and_every_expert_gets_tokens():
    config = PRESETS["grok1-tiny"].config
    model = initialized(**{**config, "vocab_size": 256}).train()
    text = torch.tensor(list("\n".join(topics.values()).encode()))
    generator = torch.Generator().manual_seed(5)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, betas=(0.9, 0.95))
    losses, loads = [], []
    for _ in range(200):
        starts = torch.randint(len(text) - 129, (4,), generator=generator)
        ids = torch.stack([text[start : start + 129] for start in starts])
        output = model(ids[:, :-1], use_cache=False, output_router_logits=True)
        mask = torch.ones(4, 128)
        balance, z = router_loss_sums(output.router_logits, mask, 8, 2)
        loss = functional.cross_entropy(output.logits.flatten(0, 1), ids[:, 1:].flatten())
        router = model.config.router_aux_loss_coef * balance + model.config.router_z_loss_coef * z
        (loss + router / 512).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        loads.append(torch.stack([expert_load_sums([layer], mask, 8, 2) / 512 for layer in output.router_logits]))
    assert sum(losses[-20:]) / 20 < 2.5 < 0.8 * sum(losses[:20]) / 20
    # Even sharing is an eighth; bytes of English text take some experts more often than others.
    assert float(torch.stack(loads[-50:]).mean(0).min()) > 0.02
