from __future__ import annotations

import pytest
import torch
from transformers.optimization import Adafactor

from pipeline.reporting.anatomy_words import OTHER_METHODS
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


def muon(g, w, state):
    """ΔW = -c η O - η λ W of B <- μ B + (1 - μ) G; O has the singular vectors of G + μ (B - G) and values near 1."""
    state["b"] = 0.95 * state.get("b", 0) + 0.05 * g
    left, _, right = torch.linalg.svd(g + 0.95 * (state["b"] - g), full_matrices=False)
    return -0.2 * max(w.shape) ** 0.5 * 0.1 * left @ right - 0.1 * 0.3 * w


def adafactor(g, w, state):
    """v is the product of the means of g² over row and column, over their mean; u = g / √v; -η u / max(1, RMS(u))."""
    share = 1 - (state["t"] + 1) ** -0.8
    squares = g**2 + 1e-30
    state["rows"] = share * state.get("rows", 0) + (1 - share) * squares.mean(1, keepdim=True)
    state["columns"] = share * state.get("columns", 0) + (1 - share) * squares.mean(0, keepdim=True)
    u = g / (state["rows"] * state["columns"] / state["rows"].mean()).sqrt()
    return -0.1 * u / max(1.0, u.square().mean().sqrt()) - 0.1 * 0.3 * w


def rmsprop(g, w, state):
    """v is a mean of g² that forgets; -η g / (√v + ε)."""
    state["v"] = 0.99 * state.get("v", 0) + 0.01 * g**2
    return -0.1 * g / (state["v"].sqrt() + 1e-8)


def adagrad(g, w, state):
    """v <- v + g², -η g / (√v + ε)."""
    state["v"] = state.get("v", 0) + g**2
    return -0.1 * g / (state["v"].sqrt() + 1e-10)


OTHERS = [
    (torch.optim.Muon, {"weight_decay": 0.3, "adjust_lr_fn": "match_rms_adamw"}, muon),
    (Adafactor, {"weight_decay": 0.3, "scale_parameter": False, "relative_step": False}, adafactor),
    (torch.optim.RMSprop, {}, rmsprop),
    (torch.optim.Adagrad, {}, adagrad),
]


@pytest.mark.parametrize(("optimizer_class", "settings", "change"), OTHERS)
def test_formulas_that_are_told_of_others_are_theirs(optimizer_class, settings, change):
    """As the page of an anatomy has them. Muon's iteration brings singular values to between 0.7 and 1.2 only."""
    assert optimizer_class.__name__ in OTHER_METHODS
    torch.manual_seed(0)
    weight, state = torch.nn.Parameter(torch.randn(6, 4)), {}
    optimizer = optimizer_class([weight], lr=0.1, **settings)
    for step in range(3):
        weight.grad, before = torch.randn(6, 4), weight.detach().clone()
        state["t"] = step
        told = change(weight.grad, before, state)
        optimizer.step()
        found = weight.detach() - before
        near = 0.35 if optimizer_class is torch.optim.Muon else 1e-4
        assert float((found - told).norm() / told.norm()) < near
