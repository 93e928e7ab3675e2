"""Nets that are known to vanish, to explode and to learn get these verdicts from what is measured on them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pipeline.telemetry.facts import HealthFacts
from pipeline.telemetry.matrix_statistics import MatrixStatistics
from pipeline.telemetry.panel import replay
from pipeline.telemetry.transfer import to_host
from pipeline.telemetry.verdicts import Verdict

FACTS = HealthFacts("tokens", 40, 0, 1e-3, 1.0, is_pretrained=False, stops_early=False)


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


class Sine(nn.Module):
    """Bounded forward, with slopes near one: large weights amplify the gradient but not the activations."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sin(x)


def verdicts(net: Deep, learning_rate: float = 1e-3, steps: int = 4) -> dict[str, Verdict]:
    """What is said of a net that learns to be zero, after a tenth of its steps."""
    torch.manual_seed(0)
    optimizer = torch.optim.Adam(net.parameters(), lr=learning_rate)
    norms = MatrixStatistics(net, optimizer, lambda group: 0.0)
    records = []
    for step in range(1, steps + 1):
        optimizer.zero_grad()
        net(torch.randn(32, 16)).square().mean().backward()
        before = norms.before()
        optimizer.step()
        measured = norms.after(before)
        [values] = to_host([measured.norms])
        records.append({"step": step, "train/learning_rate": 1e-3, **norms.tags(values, measured)})
    return {verdict.what: verdict for verdict in replay(FACTS, records).verdicts()}


@pytest.mark.parametrize("activation", [nn.Sigmoid(), nn.Tanh()])
def test_a_deep_stack_of_saturating_units_vanishes(activation):
    torch.manual_seed(0)
    verdict = verdicts(Deep(activation, gain=1.0 if isinstance(activation, nn.Sigmoid) else 0.5, depth=40))[
        "vanishing_gradients"
    ]
    assert (verdict.verdict, verdict.since) == ("critical", 1)
    assert verdict.evidence.where.startswith("layers.0 to layers.")
    assert "layers.39" not in verdict.evidence.where


def test_a_bounded_stack_with_large_weights_explodes_on_the_way_back():
    torch.manual_seed(0)
    verdict = verdicts(Deep(Sine(), gain=6.0))["exploding_gradients"]
    assert "layers.0" in verdict.evidence.where
    assert "layers.11" not in verdict.evidence.where


@pytest.mark.parametrize("seed", range(5))
def test_well_scaled_stacks_are_healthy(seed):
    torch.manual_seed(seed)
    found = verdicts(Deep(nn.Tanh(), gain=1.0))
    assert all(verdict.is_healthy for verdict in found.values()), found


@pytest.mark.parametrize(
    ("learning_rate", "what"), [(10.0, "unstable_updates"), (3.0, "unstable_updates"), (1e-9, "stalled_updates")]
)
def test_learning_rates_far_off(learning_rate, what):
    torch.manual_seed(0)
    assert what in verdicts(Deep(nn.Tanh(), gain=1.0, depth=2), learning_rate)
