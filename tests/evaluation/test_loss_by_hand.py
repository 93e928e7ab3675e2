from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pipeline.evaluation.loss_by_hand import cross_entropy_by_hand, regression_by_hand
from pipeline.evaluation.losses import cross_entropy_sums, regression_losses


@pytest.mark.parametrize(("smoothing", "coefficient"), [(0.0, 0.0), (0.1, 0.0), (0.0, 1e-2), (0.2, 1e-2)])
@pytest.mark.parametrize("shape", [(2, 5), (6,)])
def test_cross_entropy_and_its_gradient_are_those_of_autograd(smoothing, coefficient, shape):
    random = np.random.default_rng(0)
    logits, labels = random.normal(size=(*shape, 7)) * 3, random.integers(0, 7, shape)
    labels.flat[2] = -100
    found = cross_entropy_by_hand(logits, labels, label_smoothing=smoothing, z_loss_coef=coefficient)

    rows = torch.tensor(logits.reshape(-1, 7), requires_grad=True)
    targets = torch.tensor(labels.reshape(-1))
    kept = targets != -100
    plain = torch.nn.functional.cross_entropy(rows[kept], targets[kept])
    total = torch.nn.functional.cross_entropy(rows[kept], targets[kept], label_smoothing=smoothing)
    total = total + coefficient * rows[kept].logsumexp(-1).square().mean()
    total.backward()
    assert found.loss == pytest.approx(plain.item(), rel=1e-12)
    assert found.objective == pytest.approx(total.item(), rel=1e-12)
    assert np.allclose(found.gradient.reshape(-1, 7), rows.grad.numpy(), rtol=1e-10, atol=1e-15)
    assert found.num_targets == kept.sum()
    # What training makes small, in float32.
    sums = cross_entropy_sums(
        torch.tensor(logits), torch.tensor(labels), label_smoothing=smoothing, z_loss_coef=coefficient
    )
    assert sums.total.item() / found.num_targets == pytest.approx(found.objective, rel=1e-5)


def test_examples_are_the_best_the_middle_and_the_worst_target():
    logits = np.log(np.array([[[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.5, 0.25, 0.25], [0.2, 0.3, 0.5]]]))
    found = cross_entropy_by_hand(logits, np.array([[2, 1, -100, 2]]), label_smoothing=0, z_loss_coef=0)
    assert [one.index for one in found.examples] == [(0, 1), (0, 3), (0, 0)]
    worst = found.examples[-1]
    assert (worst.target, worst.loss) == (2, pytest.approx(-math.log(0.1)))
    assert worst.log_normalizer == pytest.approx(0, abs=1e-12)
    assert worst.gradient == pytest.approx((0.1 - 1) / 3)
    assert worst.likeliest == [(0, pytest.approx(0.7)), (1, pytest.approx(0.2)), (2, pytest.approx(0.1))]


@pytest.mark.parametrize("delta", [None, 0.7])
def test_regression_and_its_gradient_are_those_of_autograd(delta):
    outputs, labels = np.array([[0.5], [-2.0], [3.0], [1.0]]), np.array([0.1, 1.0, np.nan, 1.5], dtype=np.float32)
    found = regression_by_hand(outputs, labels, delta)
    predicted = torch.tensor(outputs, requires_grad=True)
    total = regression_losses(predicted, torch.tensor(labels), delta).sum() / 3
    total.backward()
    assert found.loss == found.objective == pytest.approx(total.item(), rel=1e-6)
    assert np.allclose(found.gradient, predicted.grad.numpy(), rtol=1e-6)
    assert found.formula == ("squared_error" if delta is None else "huber")
    assert [one.index for one in found.examples] == [(0,), (3,), (1,)]
    one = found.examples[0]
    assert (one.target, one.output) == (pytest.approx(0.1), 0.5)


def test_large_logits_do_not_overflow():
    found = cross_entropy_by_hand(
        np.array([[1e4, 0.0], [0.0, 1e4]]), np.array([0, 0]), label_smoothing=0, z_loss_coef=0
    )
    assert found.loss == pytest.approx(5e3)
    assert np.isfinite(found.gradient).all()
