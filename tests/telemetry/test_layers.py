from __future__ import annotations

import pytest
import torch
from torch import nn

from pipeline.telemetry.layer_statistics import LayerStatistics


class Net(nn.Module):
    base_model_prefix = "model"

    def __init__(self, depth: int = 2) -> None:
        super().__init__()
        self.model = nn.Module()
        self.model.embed = nn.Linear(4, 4)
        self.model.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(depth))
        self.head = nn.Linear(4, 2, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.model.embed(x)
        for layer in self.model.layers:
            x = torch.tanh(layer(x))
        return self.head(x)


def test_norms_around_a_step_of_plain_descent():
    torch.manual_seed(0)
    net = Net()
    norms = LayerStatistics(net)
    assert norms.layers == ["embed", "layers.0", "layers.1", "head"]
    net(torch.randn(8, 4)).square().sum().backward()
    layer = net.model.layers[1]
    gradient = torch.cat([layer.weight.grad.flatten(), layer.bias.grad]).norm().item()
    weights = torch.cat([layer.weight.flatten(), layer.bias]).norm().item()

    before = norms.before()
    torch.optim.SGD(net.parameters(), lr=0.01).step()
    tags = norms.tags(norms.after(before))

    assert tags["layers/layers.1/grad_norm"] == pytest.approx(gradient)
    assert tags["layers/layers.1/param_norm"] == pytest.approx(weights)
    assert tags["layers/layers.1/update_ratio"] == pytest.approx(0.01 * gradient / weights, rel=1e-4)


def test_missing_gradients_and_zero_weights_measure_zero():
    net = Net()
    nn.init.zeros_(net.head.weight)
    norms = LayerStatistics(net)
    net.model.embed(torch.randn(3, 4)).sum().backward()
    tags = norms.tags(norms.after(norms.before()))
    assert tags["layers/layers.0/grad_norm"] == 0
    assert tags["layers/embed/grad_norm"] > 0
    assert tags["layers/head/update_ratio"] == 0
