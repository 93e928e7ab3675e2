from __future__ import annotations

import pytest
import torch

from pipeline.telemetry.update_by_hand import formula_of, work_out

KINDS = [
    ("sgd", torch.optim.SGD, {"lr": 0.1}),
    ("sgd", torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.2}),
    ("sgd", torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.5, "weight_decay": 0.2}),
    ("sgd", torch.optim.SGD, {"lr": 0.1, "momentum": 0.8, "nesterov": True, "weight_decay": 0.2}),
    ("adam", torch.optim.Adam, {"lr": 0.1, "betas": (0.9, 0.95), "weight_decay": 0.2, "eps": 1e-3}),
    ("adamw", torch.optim.AdamW, {"lr": 0.1, "betas": (0.9, 0.95), "weight_decay": 0.2, "eps": 1e-3}),
]


@pytest.mark.parametrize(("kind", "optimizer_class", "settings"), KINDS)
def test_each_step_is_that_of_the_optimizer(kind, optimizer_class, settings):
    """In float64, where nothing is rounded away; `fused` and others are the same formula."""
    weight = torch.nn.Parameter(torch.tensor([[0.3, -2.0], [1.5, 0.7]], dtype=torch.float64))
    optimizer = optimizer_class([weight], **settings)
    for step in range(4):
        weight.grad = torch.tensor([[0.5, -0.1], [0.02, 3.0]], dtype=torch.float64) * (step - 1.5)
        state = {
            name: float(value if value.numel() == 1 else value[0, 1]) for name, value in optimizer.state[weight].items()
        }
        group = optimizer.param_groups[0]
        assert formula_of(optimizer, group) == kind
        before, found = weight[0, 1].item(), work_out(kind, group, state, weight[0, 1].item(), weight.grad[0, 1].item())
        optimizer.step()
        assert found.change == pytest.approx(weight[0, 1].item() - before, rel=1e-11)
        assert found.settings["lr"] == 0.1


@pytest.mark.parametrize(
    ("optimizer_class", "settings"),
    [(torch.optim.AdamW, {"amsgrad": True}), (torch.optim.SGD, {"maximize": True}), (torch.optim.RAdam, {})],
)
def test_other_optimizers_have_no_formula_here(optimizer_class, settings):
    optimizer = optimizer_class([torch.nn.Parameter(torch.zeros(2))], lr=0.1, **settings)
    assert formula_of(optimizer, optimizer.param_groups[0]) is None
