from __future__ import annotations

import pytest
import torch
from torch import nn

from pipeline.modeling.module_hooks import record_modules


class Twice(nn.Module):
    """A block that gives a tuple, and one activation that is called twice; the last layer is not in the loss."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.unused = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8)
        self.act, self.pair, self.drop = nn.Tanh(), Pair(), nn.Dropout(0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.act(self.first(x))
        self.unused(x)
        return self.drop(self.act(self.second(self.pair(x)[0])))


class Pair(nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, int]:
        return 3 * x, 1


@pytest.mark.parametrize("scale", [1.0, 1e-30])
def test_figures_are_those_of_autograd_by_hand(scale):
    torch.manual_seed(0)
    net, x = Twice().train(), torch.randn(5, 8)
    state = torch.get_rng_state()
    found = record_modules(net, dict(net.named_children()), lambda: net(x).square().sum() * scale, [net.first.weight])

    a = net.first(x)
    b = a.tanh()
    c = 3 * b
    d = net.second(c)
    e = d.tanh()
    wanted = torch.autograd.grad(e.square().sum(), [a, b, c, d, e, net.first.weight])
    a_, b_, c_, d_, e_, weight = (one.double() for one in wanted)
    outputs = {"first": (a, a_), "act": (torch.cat([b, e]), torch.cat([b_, e_])), "pair": (c, c_), "second": (d, d_)}
    assert list(found.modules) == ["first", "act", "unused", "pair", "second", "drop"]
    for name, (output, gradient) in outputs.items():
        one = found.modules[name]
        assert one.rms.item() == pytest.approx(output.double().square().mean().sqrt().item(), rel=1e-6)
        assert one.largest.item() == output.abs().max().item()
        assert one.gradient_norm.item() == pytest.approx(scale * gradient.norm().item(), rel=1e-5)
    assert (found.modules["pair"].kind, found.modules["pair"].shape) == ("Pair", (5, 8))
    assert found.modules["unused"].gradient_norm is None
    assert torch.allclose(found.parameter_gradients[0].double(), scale * weight)
    # It changed nothing, and the dropout drew nothing.
    assert all(parameter.grad is None for parameter in net.parameters())
    assert all(module.training and not module._forward_hooks for module in net.modules())
    assert torch.equal(state, torch.get_rng_state())


def test_a_frozen_model_has_outputs_and_no_gradients():
    net = Twice().requires_grad_(False)
    found = record_modules(net, {"first": net.first}, lambda: net(torch.ones(2, 8)).sum())
    assert found.modules["first"].gradient_norm is None
    assert found.modules["first"].num_values.item() == 16


def test_without_a_backward_pass_no_graph_is_kept():
    net, kept = Twice(), []
    found = record_modules(
        net, {"first": net.first}, lambda: kept.append(net(torch.ones(2, 8))) or kept[0].sum(), backward=False
    )
    assert not kept[0].requires_grad
    assert found.modules["first"].gradient_norm is None
    assert found.modules["first"].num_values.item() == 16


def test_hooks_are_gone_after_an_error():
    net = Twice()
    with pytest.raises(RuntimeError):
        record_modules(net, {"first": net.first}, lambda: net(torch.ones(2, 9)).sum())
    assert not net.first._forward_hooks
