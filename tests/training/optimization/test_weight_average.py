from __future__ import annotations

import pytest
import torch

from pipeline.training.optimization.weight_average import WeightAverage


def test_it_is_the_weighted_mean_of_the_weights_after_each_step():
    model = torch.nn.Linear(3, 2)
    model.bias.requires_grad_(False)
    average = WeightAverage(model, decay=0.9)
    expected = model.weight.detach().double().clone()
    for step in range(1, 101):
        with torch.no_grad():
            model.weight.add_(torch.randn(2, 3))
        average.update(step)
        decay = min(0.9, (1 + step) / (10 + step))  # 0.9 from step 80 on
        expected = decay * expected + (1 - decay) * model.weight.detach().double()
    assert average.tensors.keys() == {"weight"}
    # A hundred roundings of 6e-8, each soon forgotten, on values of about ten.
    torch.testing.assert_close(average.tensors["weight"].double(), expected, rtol=1e-5, atol=1e-5)


def test_it_stands_in_for_the_weights_and_leaves_no_trace():
    model = torch.nn.Linear(3, 2)
    average = WeightAverage(model, decay=0.5)
    with torch.no_grad():
        model.weight.add_(1 / 3)
    average.update(1)
    weights, means = model.weight.detach().clone(), average.tensors["weight"].clone()
    with average.in_place_of_weights():
        assert torch.equal(model.weight, means)
        assert not torch.equal(model.weight, weights)
    assert torch.equal(model.weight, weights)
    assert torch.equal(average.tensors["weight"], means)
    with pytest.raises(KeyError), average.in_place_of_weights():
        raise KeyError
    assert torch.equal(model.weight, weights)
