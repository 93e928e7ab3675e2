"""Norms around a step are those that float64 gives of the gradients and weights before and after it."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn
from training.tiny import in_processes

from pipeline.telemetry import matrix_statistics
from pipeline.telemetry.matrix_statistics import MatrixStatistics
from pipeline.telemetry.transfer import to_host
from pipeline.training.optimization.optimizers import family_of
from pipeline.training.optimization.parameter_groups import build_optimizer, set_learning_rate
from pipeline.training.train_config import TrainConfig

TOLERANCE = 1e-5
"""Relative; float32 has 6e-8 a rounding, and the norm of some thousand numbers adds up a few of them."""

RATE, DECAY = 0.01, 0.1


class Net(nn.Module):
    """Blocks between an embedding and a head that share one weight, and a frozen layer."""

    base_model_prefix = "model"

    def __init__(self, depth: int = 2) -> None:
        super().__init__()
        self.model = nn.Module()
        self.model.embed = nn.Embedding(32, 16)
        self.model.layers = nn.ModuleList(nn.Sequential(nn.Linear(16, 16), nn.LayerNorm(16)) for _ in range(depth))
        self.model.frozen = nn.Linear(16, 16).requires_grad_(False)
        self.head = nn.Linear(16, 32)
        self.head.weight = self.model.embed.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.model.embed(ids)
        for layer in self.model.layers:
            x = x + torch.tanh(layer(x))
        return self.head(self.model.frozen(x))


MATRICES = [
    "embed",
    *(f"layers.{block}.{part}" for block in range(2) for part in ("0", "0.bias", "1", "1.bias")),
    "head.bias",
]


def decay_of(name: str) -> Any:
    return partial(family_of(name).decoupled_decay, name)


def step(net: nn.Module, section: TrainConfig, rate: float = RATE) -> tuple[dict[str, float], torch.optim.Optimizer]:
    """Tags of one step, from the gradients that are there."""
    optimizer = build_optimizer(section, net, torch.device("cpu"))
    coupled = partial(family_of(section.optim).coupled_decay, section.optim)
    statistics = MatrixStatistics(net, optimizer, decay_of(section.optim), coupled)
    before = statistics.before()
    set_learning_rate(optimizer, rate)
    optimizer.step()
    measured = statistics.after(before)
    [values] = to_host([measured.norms])
    return statistics.tags(values, measured), optimizer


def learn(net: nn.Module) -> None:
    torch.manual_seed(1)
    ids = torch.randint(0, 32, (8, 4))
    nn.functional.cross_entropy(net(ids).flatten(0, 1), ids.flatten().roll(1)).backward()


def weights_of(net: nn.Module) -> dict[str, torch.Tensor]:
    found = {name: parameter for name, parameter in net.named_parameters() if parameter.requires_grad}
    return dict(zip(MATRICES, (one.detach().double().clone() for one in found.values()), strict=True))


def section_of(optim: str, **changes: Any) -> TrainConfig:
    decayed = {"parameter_groups": [{"pattern": "layers.1.0.weight", "learning_rate": RATE / 2, "weight_decay": 0.3}]}
    settings = {"max_steps": 9, "optim": optim, "learning_rate": RATE, "weight_decay": DECAY}
    return TrainConfig(**{**settings, **decayed, **changes})


# The step's part of each weight that decays: lr * weight_decay of its group; norms, biases and embeddings have none.
DECAYED = {"layers.0.0": RATE * DECAY, "layers.1.0": RATE / 2 * 0.3}


@pytest.mark.parametrize("optim", ["adamw_torch_fused", "muon", "adafactor", "sgd"])
def test_every_figure_is_that_of_float64(optim):
    torch.manual_seed(0)
    net, plain = Net(), Net()
    plain.load_state_dict(net.state_dict())
    for one in (net, plain):
        learn(one)
    before = weights_of(net)
    gradients = [one.grad.double() for one in net.parameters() if one.grad is not None]
    tags, _ = step(net, section_of(optim))
    update = {name: after - before[name] for name, after in weights_of(net).items()}
    undecayed = section_of(
        optim,
        weight_decay=0.0,
        parameter_groups=[{"pattern": "layers.1.0.weight", "learning_rate": RATE / 2, "weight_decay": 0.0}],
    )
    step(plain, undecayed)
    without_decay = {name: after - before[name] for name, after in weights_of(plain).items()}

    figures = ("grad_norm", "weight_norm", "update_norm", "step_norm", "decay_norm")
    mixed = {f"matrices/{name}/step_norm" for name in DECAYED} if optim == "sgd" else set()
    assert tags.keys() == {f"matrices/{name}/{figure}" for name in MATRICES for figure in figures} - mixed
    for name, gradient in zip(MATRICES, gradients, strict=True):
        decayed = DECAYED.get(name, 0.0)
        expected = {
            "grad_norm": gradient.norm().item(),
            "weight_norm": before[name].norm().item(),
            "update_norm": update[name].norm().item(),
            "step_norm": (update[name] + decayed * before[name]).norm().item(),
            "decay_norm": decayed * before[name].norm().item(),
        }
        if optim == "sgd" and name in DECAYED:  # momentum of 0.9 repeats it ten times
            expected["decay_norm"] *= 10
            del expected["step_norm"]
        found = {figure: tags[f"matrices/{name}/{figure}"] for figure in expected}
        assert found == pytest.approx(expected, rel=TOLERANCE, abs=1e-12)
        if "step_norm" in found:
            # A weight near 0.2 rounds at 1e-8, and moves by 1e-2.
            assert found["step_norm"] == pytest.approx(without_decay[name].norm().item(), rel=1e-4)


@pytest.mark.parametrize(
    ("momentum", "nesterov", "dampening"), [(0.0, False, 0.0), (0.9, False, 0.0), (0.8, True, 0.0), (0.5, False, 0.25)]
)
def test_the_decay_of_one_step_of_sgd_takes_in_all_what_its_figure_says(momentum, nesterov, dampening):
    """Two trainings by SGD's formula in float64, with the same gradients and decay, but that one has none in its fifth
    step: what the other loses more, once momentum has died out, is what that step's decay took."""
    torch.manual_seed(0)
    start, gradients = torch.randn(16, 16, dtype=torch.float64), torch.randn(400, 16, 16, dtype=torch.float64)

    def trained(skipped: int | None) -> list[torch.Tensor]:
        weights, buffer, seen = start.clone(), torch.zeros_like(start), []
        for step, gradient in enumerate(gradients):
            seen.append(weights.clone())
            decay = DECAY if step == 5 and step != skipped else 0.0
            whole = gradient + decay * weights
            buffer = momentum * buffer + (1 - dampening if step else 1) * whole
            weights = weights - RATE * (whole + momentum * buffer if nesterov else buffer)
        return [*seen, weights]

    plain = trained(None)
    expected = (trained(5)[-1] - plain[-1]).norm().item() / plain[5].norm().item()
    given = {"momentum": momentum, "nesterov": nesterov} if momentum else {"momentum": momentum}
    section = section_of("sgd", **given, optim_args={"dampening": dampening})
    group = {"lr": RATE, "weight_decay": DECAY, "momentum": momentum, "nesterov": nesterov, "dampening": dampening}
    assert family_of("sgd").coupled_decay("sgd", group) == pytest.approx(expected, rel=1e-6)
    net = Net()
    learn(net)
    weight = net.model.layers[0][0].weight.detach().double().norm().item()
    tags, _ = step(net, section)
    assert tags["matrices/layers.0.0/decay_norm"] == pytest.approx(expected * weight, rel=TOLERANCE)
    assert ("matrices/layers.0.0/step_norm" in tags) == (momentum == 0)


def test_the_first_step_of_adamw_by_its_formula():
    torch.manual_seed(0)
    net = Net()
    learn(net)
    gradient = net.model.layers[0][0].weight.grad.double()
    tags, _ = step(net, section_of("adamw_torch"))
    expected = RATE * (gradient / (gradient.abs() + 1e-8)).norm().item()  # both means are the gradient's own
    assert tags["matrices/layers.0.0/step_norm"] == pytest.approx(expected, rel=1e-5)
    assert tags["matrices/layers.0.0/update_norm"] != pytest.approx(expected, rel=1e-5)


def test_a_rate_of_zero_moves_nothing_and_an_unknown_decay_is_left_out():
    net = Net()
    learn(net)
    tags, _ = step(net, section_of("adamw_torch"), rate=0.0)
    moved = [tags[f"matrices/{name}/{figure}"] for name in MATRICES for figure in ("update_norm", "step_norm")]
    assert set(moved) == {0.0}
    net = Net()
    learn(net)
    tags, _ = step(net, section_of("ASGD"))
    assert {tag.rpartition("/")[2] for tag in tags} == {"grad_norm", "weight_norm", "update_norm"}


def test_missing_gradients_measure_zero_and_what_is_not_finite_is_not_recorded():
    net = Net()
    net.model.layers[0](torch.ones(1, 16)).square().sum().backward()
    tags, _ = step(net, section_of("sgd"))
    assert tags["matrices/layers.1.0/grad_norm"] == tags["matrices/layers.1.0/update_norm"] == 0
    assert tags["matrices/layers.0.0/grad_norm"] > 0
    net.model.layers[0][0].weight.grad.fill_(math.inf)
    assert step(net, section_of("sgd"))[0] == {}


def test_gradients_too_small_to_square_are_seen():
    net = Net()
    net.head.bias.grad = torch.full((32,), 1e-30)
    assert step(net, section_of("sgd"))[0]["matrices/head.bias/grad_norm"] == pytest.approx(32**0.5 * 1e-30)


def test_of_too_many_parameters_only_matrices_are_measured(monkeypatch):
    monkeypatch.setattr(matrix_statistics, "MOST_MATRICES", 9)
    net = Net()
    learn(net)
    names = {tag.split("/")[1] for tag in step(net, section_of("sgd"))[0]}
    assert names == {"embed", "layers.0.0", "layers.1.0"}


def histograms_of(net: nn.Module) -> dict[str, Any]:
    section = section_of("sgd")
    statistics = MatrixStatistics(net, build_optimizer(section, net, torch.device("cpu")), decay_of("sgd"))
    measured = statistics.after(statistics.before(with_histograms=True))
    return statistics.histograms(to_host([measured.norms, measured.counts])[1])


def test_histograms_are_of_the_weights_and_gradients_that_are_there():
    net = Net()
    net.model.layers[0](torch.ones(1, 16)).square().sum().backward()
    found = histograms_of(net)
    with_gradient = {f"layers.0.{part}" for part in ("0", "0.bias", "1", "1.bias")}
    assert found.keys() == {
        *(f"matrices/{name}/weights" for name in MATRICES), *(f"matrices/{name}/gradients" for name in with_gradient)
    }  # fmt: skip
    assert sum(count for _, _, count in found["matrices/embed/weights"]) == 32 * 16
    gradient = net.model.layers[0][0].weight.grad
    for left, right, count in found["matrices/layers.0.0/gradients"]:
        inside = (gradient >= left) & (gradient < right) if left >= 0 else (gradient > left) & (gradient <= right)
        assert count == inside.sum() or left < 0 < right


def not_alike(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Entries in other buckets: the last bits of a gradient may put one beside an edge."""
    moved = [
        sum(abs(a[2] - b[2]) for a, b in zip(one[tag], other[tag], strict=False))
        if len(one[tag]) == len(other[tag])
        else 0
        for tag in one
    ]
    same = [sum(count for *_, count in one[tag]) == sum(count for *_, count in other[tag]) for tag in one]
    return one.keys() != other.keys() or not all(same) or sum(moved) > 4 or moved.count(0) < 0.9 * len(moved)


def compare_sharded(index: int) -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    torch.manual_seed(0)
    whole, sharded = Net(), Net()
    sharded.load_state_dict(whole.state_dict())
    mesh = init_device_mesh("cpu", (2,))
    sharded.model.frozen.requires_grad_(True)
    whole.model.frozen.requires_grad_(True)
    for layer in sharded.model.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(sharded, mesh=mesh)
    found: list[Mapping[str, float]] = []
    histograms = []
    for net in (whole, sharded):
        learn(net)
        histograms.append(histograms_of(net))
        found.append(step(net, section_of("adamw_torch"))[0])
    if not_alike(*histograms):
        os._exit(4)
    if found[1] != pytest.approx(found[0], rel=TOLERANCE, abs=1e-9):
        os._exit(3)


def test_figures_of_sharded_matrices_are_those_of_the_whole():
    assert in_processes(2, compare_sharded) == [0, 0]
