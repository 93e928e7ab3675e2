from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.nn import functional

from pipeline.evaluation.losses import LossSums
from pipeline.tasks import task_named
from pipeline.training.train_config import TrainConfig

VOCAB = 11


def batch(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(4, 6, VOCAB, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, VOCAB, (4, 6), generator=generator)
    labels[0, 3:] = labels[2] = -100
    return logits.float().requires_grad_(), labels


def loss_of(task: str, logits: torch.Tensor, labels: torch.Tensor, chosen: TrainConfig) -> LossSums:
    return task_named(task).loss_sums(SimpleNamespace(logits=logits), {"labels": labels}, chosen)


def section(**changes: Any) -> TrainConfig:
    return TrainConfig(max_steps=1, **changes)


@pytest.mark.parametrize(("smoothing", "coefficient"), [(0.0, 0.0), (0.1, 0.0), (0.0, 1e-2), (0.2, 1e-3)])
def test_value_and_gradient_are_those_of_torch(smoothing, coefficient):
    logits, labels = batch()
    chosen = section(label_smoothing_factor=smoothing, z_loss_coef=coefficient)
    total, parts = loss_of("causal_lm", logits, labels, chosen)
    total.backward()

    wide = logits.detach().double().requires_grad_()
    rows, targets = wide.flatten(0, 1), labels.flatten()
    plain = functional.cross_entropy(rows, targets, reduction="sum")
    z_loss = rows[targets != -100].logsumexp(-1).square().sum()
    expected = (
        functional.cross_entropy(rows, targets, reduction="sum", label_smoothing=smoothing) + coefficient * z_loss
    )
    expected.backward()
    # Float32 against float64: some 20 terms of 6e-8 each.
    torch.testing.assert_close(total.detach().double(), expected.detach(), rtol=1e-6, atol=0)
    torch.testing.assert_close(logits.grad.double(), wide.grad, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(parts["loss"].double(), plain.detach(), rtol=1e-6, atol=0)
    names = {"loss", *(["objective"] if smoothing or coefficient else []), *(["z_loss"] if coefficient else [])}
    assert parts.keys() == names
    assert not any(part.requires_grad for part in parts.values())
    if coefficient:
        torch.testing.assert_close(parts["z_loss"].double(), z_loss.detach(), rtol=1e-6, atol=0)


def test_parts_of_a_batch_add_up():
    logits, labels = batch()
    chosen = section(label_smoothing_factor=0.1, z_loss_coef=1e-2)
    whole = loss_of("causal_lm", logits, labels, chosen)
    each = [loss_of("causal_lm", logits[i : i + 1], labels[i : i + 1], chosen) for i in range(4)]
    torch.testing.assert_close(sum(part.total for part in each), whole.total)
    for name, value in whole.parts.items():
        torch.testing.assert_close(sum(part.parts[name] for part in each), value)


def test_classes_and_numbers_of_sequences():
    scores = torch.tensor([[1.0, 2.0, 0.5], [0.0, 0.0, 3.0], [9.0, 9.0, 9.0]])
    found = loss_of("classification", scores, torch.tensor([1, 0, -100]), section(label_smoothing_factor=0.1))
    expected = functional.cross_entropy(scores[:2], torch.tensor([1, 0]), reduction="sum", label_smoothing=0.1)
    assert float(found.total) == pytest.approx(float(expected))

    told = torch.tensor([[1.0], [-1.0], [5.0]], requires_grad=True)
    wanted = torch.tensor([1.5, 2.0, torch.nan])
    squared = loss_of("regression", told, wanted, section())
    assert squared.total.item() == pytest.approx(0.25 + 9.0)
    assert dict(squared.parts) == {"loss": squared.total.detach()}
    huber = loss_of("regression", told, wanted, section(regression_loss="huber", huber_delta=1.0))
    assert huber.total.item() == pytest.approx(0.5 * 0.25 + (3.0 - 0.5))
    huber.total.backward()
    assert told.grad.squeeze().tolist() == [-0.5, -1.0, 0.0], "linear above delta, and nothing of what is no target"
