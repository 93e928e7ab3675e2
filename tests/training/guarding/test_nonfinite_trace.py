"""The first module or parameter with a value that is not finite is named."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from pipeline.training.guarding.nonfinite_trace import examine, tensor_row

IDS = torch.arange(24).reshape(2, 12)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(vocab_size=64, hidden_size=16, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2)
    )


def loss_of(model):
    return lambda: model(input_ids=IDS, use_cache=False).logits.float().logsumexp(-1).sum()


def test_a_sound_pass_has_no_finding_and_leaves_no_trace(model):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = examine(model, loss_of(model))
    assert found.finding is None
    assert {row.what for row in found.rows} == {"input", "output", "gradient of output", "gradient"}
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("name", ["model.embed_tokens", "model.layers.1.mlp.down_proj", "model.norm", "lm_head"])
def test_a_broken_weight_is_named_with_its_module(model, name):
    with torch.no_grad():
        model.get_submodule(name).weight.view(-1)[5] = math.nan
    finding = examine(model, loss_of(model)).finding
    assert finding is not None
    assert (finding.phase, finding.name) == ("forward", name)
    assert "weight holds 1 values" in str(finding)


def test_an_overflow_is_found_where_it_happens(model):
    mlp = model.model.layers[1].mlp
    with torch.no_grad():
        mlp.gate_proj.weight.mul_(1e25)
        mlp.up_proj.weight.mul_(1e25)
    finding = examine(model, loss_of(model)).finding
    assert finding is not None
    # Both factors are finite; their product, in the block's own code, is not.
    assert (finding.phase, finding.name, finding.detail) == ("forward", "model.layers.1.mlp", "")
    row = next(row for row in examine(model, loss_of(model)).rows if row.what == "output" and row.name == finding.name)
    assert row.nonfinite_share > 0.5


def test_a_gradient_that_breaks_is_named_by_its_first_parameter():
    class Root(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            return self.last((self.first(x) * 0).sqrt())  # finite, with an infinite slope

    model = Root()
    finding = examine(model, lambda: model(torch.ones(2, 4)).sum()).finding
    assert finding is not None
    assert finding.phase == "backward"
    assert finding.name.startswith("first.")
    assert finding.detail == "first seen in the gradient of the output of first"


def test_a_loss_that_breaks_on_finite_outputs(model):
    finding = examine(model, lambda: loss_of(model)() * math.inf).finding
    assert finding is not None
    assert finding.phase == "loss"


def test_gradient_checkpointing_and_compiled_blocks_are_looked_through(model):
    model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    model.train()
    for layer in model.model.layers:
        layer._compiled_call_impl = "never called"
    with torch.no_grad():
        model.model.layers[2].self_attn.o_proj.weight[0, 0] = math.inf
    finding = examine(model, loss_of(model)).finding
    assert finding is not None
    assert finding.name == "model.layers.2.self_attn.o_proj"
    assert all(layer._compiled_call_impl == "never called" for layer in model.model.layers)


def test_a_row_tells_what_is_finite_and_how_much_is_not():
    row = tensor_row("x", "Linear", "output", torch.tensor([1.0, math.nan, 3.0, -math.inf]))
    assert (row.low, row.high, row.mean, row.nonfinite_share) == (1.0, 3.0, 2.0, 0.5)
    assert tensor_row("x", "Linear", "output", torch.tensor([math.nan])).mean is None
