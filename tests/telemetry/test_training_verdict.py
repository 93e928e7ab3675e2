"""Nets that are known to vanish, to explode and to learn get these verdicts from what is measured on them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from pipeline.telemetry.layer_statistics import LayerStatistics
from pipeline.telemetry.training_verdict import judge


class Deep(nn.Module):
    """A plain stack without residual connections or norms: what each layer does to the gradient compounds."""

    def __init__(self, activation: nn.Module, gain: float, depth: int = 12, width: int = 16) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.activation = activation
        for layer in self.layers:
            nn.init.normal_(layer.weight, std=gain / width**0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = self.activation(layer(x))
        return x


def measure(net: Deep, learning_rate: float = 1e-3, steps: int = 8) -> list[dict[str, Any]]:
    torch.manual_seed(0)
    norms = LayerStatistics(net)
    optimizer = torch.optim.Adam(net.parameters(), lr=learning_rate)
    history = []
    for _ in range(steps):
        optimizer.zero_grad()
        net(torch.randn(32, 16)).square().mean().backward()
        before = norms.before()
        optimizer.step()
        history.append({"train/grad_norm": 1.0, **norms.tags(norms.after(before))})
    return history


def test_sigmoid_stack_vanishes():
    torch.manual_seed(0)
    verdict = judge(measure(Deep(nn.Sigmoid(), gain=1.0)))
    assert verdict["verdict"] == "vanishing"
    assert verdict["layers"]["layers.0"]["verdict"] == "vanishing"
    assert verdict["layers"]["layers.11"]["verdict"] == "healthy"
    assert verdict["why"].startswith("layers.0, ")


class Sine(nn.Module):
    """Bounded forward, with slopes near one: large weights amplify the gradient but not the activations."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sin(x)


def test_bounded_stack_with_large_weights_explodes_on_the_way_back():
    torch.manual_seed(0)
    verdict = judge(measure(Deep(Sine(), gain=6.0)))
    assert verdict["verdict"] == "exploding"
    assert verdict["layers"]["layers.0"]["verdict"] == "exploding"
    assert verdict["layers"]["layers.11"]["verdict"] == "healthy"


def test_well_scaled_stack_is_healthy():
    torch.manual_seed(0)
    verdict = judge(measure(Deep(nn.Tanh(), gain=1.0)))
    assert verdict["verdict"] == "healthy", verdict["why"]
    assert "within a factor of" in verdict["why"]


@pytest.mark.parametrize(("learning_rate", "expected"), [(1.0, "unstable"), (1e-7, "stalled")])
def test_learning_rates_far_off(learning_rate, expected):
    torch.manual_seed(0)
    verdict = judge(measure(Deep(nn.Tanh(), gain=1.0, depth=2), learning_rate, steps=4))
    assert verdict["verdict"] == expected


def test_growth_in_time_is_exploding():
    line = {"layers/norm/grad_norm": 1.0, "layers/norm/param_norm": 1.0, "layers/norm/update_ratio": 1e-3}
    history = [{**line, "train/grad_norm": 10.0**step} for step in range(8)]
    verdict = judge(history)
    assert verdict["verdict"] == "exploding"
    assert "grew" in verdict["why"]
    assert verdict["layers"]["norm"]["verdict"] == "healthy"


def test_nothing_measured_is_unknown():
    assert judge([])["verdict"] == "unknown"
