from __future__ import annotations

import pytest
import torch

from pipeline.errors import ConfigError
from pipeline.training.optimization.sparsity import freeze, keep_largest


@pytest.mark.parametrize(("density", "kept"), [(0.01, 1), (0.3, 4), (0.5, 6), (1.0, 12)])
def test_only_the_largest_entries_stay(density, kept):
    gradient = torch.tensor([3, -12, 1, 5, -7, 2, 8, -9, 10, -4, 6, 11.0]).view(3, 4)
    expected = torch.where(gradient.abs() > 12 - kept, gradient, 0)
    keep_largest([gradient], density)
    assert torch.equal(gradient, expected)


def test_each_tensor_is_taken_by_itself_and_ties_stay():
    small, large, equal = torch.tensor([0.1, 0.2]), torch.tensor([10.0, 20.0]), torch.ones(3)
    keep_largest([small, large, equal], 0.5)
    assert small.tolist() == pytest.approx([0, 0.2])
    assert large.tolist() == [0, 20]
    assert equal.tolist() == [1, 1, 1]


def test_what_is_no_number_stays_to_be_noticed():
    gradient = torch.tensor([float("nan"), 1.0, 2.0, float("nan"), float("nan")])
    keep_largest([gradient], 0.4)
    assert gradient.isnan().sum() == 3


def model() -> torch.nn.Module:
    return torch.nn.ModuleDict({"embed": torch.nn.Embedding(4, 2), "head": torch.nn.Linear(2, 4)})


def test_frozen_parameters_are_found_by_expression():
    frozen = model()
    freeze(frozen, ["^embed", r"\.bias$"])
    assert [name for name, weight in frozen.named_parameters() if weight.requires_grad] == ["head.weight"]


def test_an_expression_that_matches_nothing_and_one_that_matches_all_are_refused():
    with pytest.raises(ConfigError, match=r"train.freeze.1: 'embd' is in the name of no parameter; .* embed.weight"):
        freeze(model(), ["embed", "embd"])
    with pytest.raises(ConfigError, match="leaves no parameter to train"):
        freeze(model(), ["."])
