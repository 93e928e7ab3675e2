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


class Breaks(torch.autograd.Function):
    """The identity, whose gradient holds one value that is not a number."""

    @staticmethod
    def forward(ctx, tensor):
        return tensor.clone()

    @staticmethod
    def backward(ctx, gradient):
        gradient = gradient.clone()
        gradient.view(-1)[3] = math.nan
        return gradient


def break_backward(module):
    """Let the gradient break inside a module, which computes what it did before."""
    forward = module.forward
    module.forward = lambda tensor, *others, **named: forward(Breaks.apply(tensor), *others, **named)


def loss_of(model):
    return lambda: model(input_ids=IDS, use_cache=False).logits.float().logsumexp(-1).sum()


def test_a_sound_pass_has_no_finding_and_leaves_no_trace(model):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = examine(model, loss_of(model))
    assert found.finding is None
    assert {row.what for row in found.rows} == {
        "input",
        "output",
        "gradient of output",
        "gradient of input",
        "gradient",
    }
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


@pytest.mark.parametrize(
    "name",
    [
        "model.layers.0.input_layernorm",
        "model.layers.1.post_attention_layernorm",
        "model.layers.1.self_attn.q_proj",  # all three are given one tensor
        "model.layers.1.self_attn.k_proj",
        "model.layers.1.self_attn.v_proj",
        "model.layers.2.mlp.act_fn",
        "model.layers.1.mlp",  # its own code, before its first module
        "model.norm",
        "lm_head",
    ],
)
@pytest.mark.parametrize("is_recomputed", [False, True])
def test_the_module_in_whose_backward_pass_it_broke_is_named(model, name, is_recomputed):
    if is_recomputed:
        model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
        model.train()
    expected = loss_of(model)()
    break_backward(model.get_submodule(name))
    outputs = []
    found = examine(model, lambda: outputs.append(loss_of(model)()) or outputs[0])
    assert found.finding is not None
    assert (found.finding.phase, found.finding.name) == ("backward", name)
    kind = type(model.get_submodule(name)).__name__
    told = f"the backward pass of {name} ({kind}), which got finite gradients and passed on one that is not"
    assert str(found.finding) == told
    assert torch.equal(outputs[0], expected), "watching changes no value"
    row = next(row for row in found.rows if row.what == "gradient of input" and row.name == name)
    assert row.nonfinite_share == pytest.approx(1 / math.prod(row.shape))


def test_modules_that_pass_their_input_on_work_in_place_or_are_called_twice():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.shared, self.last = nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4)
            self.same, self.in_place = nn.Identity(), nn.ReLU(inplace=True)
            self.attention = nn.MultiheadAttention(4, 2)

        def forward(self, x):
            x = self.shared(self.first(x))
            x = self.in_place(self.same(x) + 1)
            x = self.attention(x, x, x)[0]
            return self.last(self.shared(self.same(x)))

    torch.manual_seed(0)
    for name in ("same", "in_place", "attention", "last"):
        model = Twice()
        expected = model(torch.ones(2, 4)).sum()
        module = model.get_submodule(name)
        if name == "attention":
            given = module.forward
            module.forward = lambda q, k, v, given=given: given(broken := Breaks.apply(q), broken, broken)
        else:
            break_backward(module)
        outputs = []
        finding = examine(
            model, lambda model=model, seen=outputs: seen.append(model(torch.ones(2, 4)).sum()) or seen[0]
        )
        assert finding.finding is not None
        assert (finding.finding.phase, finding.finding.name) == ("backward", name)
        assert torch.equal(outputs[0], expected)


def test_the_gradient_of_a_parameter_alone(model):
    module = model.model.layers[1].mlp.up_proj
    module.forward = lambda tensor: nn.functional.linear(tensor, Breaks.apply(module.weight))
    finding = examine(model, loss_of(model)).finding
    assert finding is not None
    assert str(finding) == "the gradient of model.layers.1.mlp.up_proj.weight (Parameter)"


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
