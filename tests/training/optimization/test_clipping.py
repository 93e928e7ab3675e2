from __future__ import annotations

import math

import pytest
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType

from pipeline.training.optimization.clipping import Clipping
from pipeline.training.train_config import TrainConfig

GRADIENT = [3.0, -4.0, 0.0, 12.0]  # of norm 13


def clip(gradient: list[float], **changes: object) -> tuple[list[float], dict[str, float]]:
    network = torch.nn.ParameterList([torch.nn.Parameter(torch.zeros(2)), torch.nn.Parameter(torch.zeros(2))])
    network.append(torch.nn.Parameter(torch.zeros(5)))  # takes no part and has no gradient
    network[0].grad, network[1].grad = torch.tensor(gradient[:2]), torch.tensor(gradient[2:])
    section = TrainConfig(max_steps=1, **{"max_grad_norm": None, **changes})
    norms = Clipping(section, torch.device("cpu"), network)()
    found = {name: float(value) for name, value in vars(norms).items()}
    return [*network[0].grad.tolist(), *network[1].grad.tolist()], found


def test_nothing_is_changed_unless_asked():
    assert clip(GRADIENT) == (GRADIENT, {"norm": 13, "clipped_norm": 13, "clipped": 0, "cut_share": 0})
    assert clip(GRADIENT, max_grad_norm=14.0)[0] == pytest.approx(GRADIENT)


def test_by_global_norm():
    gradient, norms = clip(GRADIENT, max_grad_norm=6.5)
    assert gradient == pytest.approx([1.5, -2, 0, 6], rel=1e-6)
    assert norms == {"norm": 13, "clipped_norm": 6.5, "clipped": 1, "cut_share": 0}


def test_by_value():
    gradient, norms = clip(GRADIENT, max_grad_value=3.0)
    assert gradient == [3, -3, 0, 3]
    assert norms == pytest.approx({"norm": 13, "clipped_norm": math.sqrt(27), "clipped": 0, "cut_share": 0.5})


def test_largest_entries_then_value_then_norm():
    gradient, norms = clip(GRADIENT, gradient_density=0.5, max_grad_value=5.0, max_grad_norm=1.0)
    expected = [0, -4, 0, 5]
    assert gradient == pytest.approx([entry / math.sqrt(41) for entry in expected], rel=1e-5)
    assert norms == pytest.approx({"norm": 13, "clipped_norm": 1, "clipped": 1, "cut_share": 0.25})


def test_an_infinite_entry_is_seen_though_it_is_cut():
    _, norms = clip([1.0, math.inf, 0.0, 2.0], max_grad_value=1.0)
    assert norms["norm"] == math.inf


def test_a_loss_scale_is_undone_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """With Accelerate as it is on GPUs that share a model out, in fp16."""
    accelerator = Accelerator(cpu=True)
    monkeypatch.setattr(Accelerator, "distributed_type", DistributedType.FSDP)
    monkeypatch.setattr(Accelerator, "mixed_precision", "fp16")
    accelerator.native_amp, accelerator.scaler = True, torch.amp.GradScaler("cpu", init_scale=4.0)
    weight = torch.nn.Parameter(torch.zeros(2))
    optimizer = accelerator.prepare_optimizer(torch.optim.SGD([weight], 1.0))
    accelerator.backward((weight * torch.tensor([3.0, -4.0])).sum())
    section = TrainConfig(max_steps=1, max_grad_norm=2.5)
    accelerator.unscale_gradients()
    assert Clipping(section, accelerator.device, torch.nn.ParameterList([weight]))().norm == 5
    optimizer.step()
    assert weight.tolist() == pytest.approx([-1.5, 2])


def test_norms_are_on_the_device_where_gradients_are_not() -> None:
    network = torch.nn.ParameterList([torch.nn.Parameter(torch.zeros(2))])
    network[0].grad = torch.ones(2)
    norms = Clipping(TrainConfig(max_steps=1, max_grad_value=0.5), torch.device("meta"), network)()
    assert {norm.device.type for norm in vars(norms).values()} == {"meta"}
