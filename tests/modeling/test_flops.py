"""The formula against torch's counter, which watches every product."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForCausalLM

from pipeline.modeling.flops import (
    attention_flops_per_token,
    forward_flops_per_token,
    training_flops_per_token,
)

LENGTH, BATCH = 24, 2
COMMON = {"vocab_size": 80, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4}
MODELS: dict[str, dict[str, Any]] = {
    "llama": {**COMMON, "intermediate_size": 48, "num_key_value_heads": 2, "head_dim": 16},
    "tied llama": {**COMMON, "intermediate_size": 48, "num_key_value_heads": 2, "tie_word_embeddings": True},
    "gpt2": {"vocab_size": 80, "n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": LENGTH},
    "mixtral": {
        **COMMON,
        "intermediate_size": 48,
        "num_key_value_heads": 2,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
    },
    "qwen3_moe": {**COMMON, "moe_intermediate_size": 24, "num_key_value_heads": 2, "num_experts": 8, "head_dim": 8},
}


def build(name: str) -> Any:
    config = AutoConfig.for_model(name.split()[-1], **MODELS[name])
    # Written as plain products, which the counter sees one by one, only over the tokens that each expert gets.
    config._experts_implementation = "eager"
    # The counter does not know the CPU's fused attention.
    return AutoModelForCausalLM.from_config(config, attn_implementation="eager")


def counted(model: Any, backward: bool) -> float:
    ids = torch.randint(2, 80, (BATCH, LENGTH), generator=torch.Generator().manual_seed(0))
    with FlopCounterMode(display=False) as counter:
        logits = model(input_ids=ids, use_cache=False).logits
        if backward:
            logits.float().sum().backward()
    return counter.get_total_flops() / (BATCH * LENGTH)


@pytest.mark.parametrize("name", MODELS)
def test_forward_pass_is_what_torch_counts(name):
    model = build(name)
    # Rotary angles are one small product that the formula leaves out.
    assert forward_flops_per_token(model, LENGTH) == pytest.approx(counted(model, backward=False), rel=2e-3)


@pytest.mark.parametrize("name", ["llama", "gpt2", "mixtral"])
def test_training_is_what_torch_counts(name):
    model = build(name)
    assert training_flops_per_token(model, LENGTH) == pytest.approx(counted(model, backward=True), rel=2e-3)


def test_frozen_weights_need_no_gradient_of_their_own():
    model = build("llama")
    full = training_flops_per_token(model, LENGTH)
    of_weights = forward_flops_per_token(model, LENGTH) - attention_flops_per_token(model.config, LENGTH)
    model.requires_grad_(False)
    assert training_flops_per_token(model, LENGTH) == full - of_weights


def test_a_window_bounds_what_attention_costs():
    config = AutoConfig.for_model(
        "qwen2", **COMMON, intermediate_size=48, use_sliding_window=True, sliding_window=8, max_window_layers=1
    )
    windowed = AutoModelForCausalLM.from_config(config)
    growth = forward_flops_per_token(windowed, 48) - forward_flops_per_token(windowed, 24)
    assert growth == 4 * 32 * 24  # one layer of three sees everything


def test_the_largest_models_are_counted_without_their_weights():
    config = AutoConfig.for_model("llama", hidden_size=8192, intermediate_size=28672, num_hidden_layers=80,
                                  num_attention_heads=64, num_key_value_heads=8, vocab_size=128256)  # fmt: skip
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    # 70.55B parameters, of which the embedding table's 1.05B are looked up.
    dense = training_flops_per_token(model, 1) - 12 * 80 * 8192
    assert dense == pytest.approx(6 * (70.5537e9 - 1.0507e9), rel=1e-4)


def test_layers_with_sizes_of_their_own():
    kinds = ["sliding_attention", "full_attention"]
    config = AutoConfig.for_model(
        "gemma4_unified_text",
        num_hidden_layers=2, hidden_size=32, num_attention_heads=4, num_key_value_heads=2, head_dim=8,
        global_head_dim=16, sliding_window=6, layer_types=kinds,
    )  # fmt: skip
    assert attention_flops_per_token(config, 24) == 2 * 4 * (8 + 8) * 6 + 2 * 4 * (16 + 16) * 24
