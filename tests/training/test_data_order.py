from __future__ import annotations

import numpy as np
import pytest

from pipeline.training.data_order import DataOrder


@pytest.mark.parametrize("num_windows", [1, 2, 3, 5, 16, 17, 1000])
def test_each_epoch_is_a_permutation(num_windows):
    order = DataOrder(num_windows, seed=3)
    for epoch in range(3):
        assert sorted(order.windows(epoch * num_windows, num_windows)) == list(range(num_windows))


def test_epochs_and_seeds_differ():
    first, second = DataOrder(500, seed=0).windows(0, 1000).reshape(2, 500)
    assert (first == second).mean() < 0.02
    assert (first == DataOrder(500, seed=1).windows(0, 500)).mean() < 0.02


def test_any_slice_is_a_part_of_the_same_sequence():
    order = DataOrder(10, seed=7)
    whole = order.windows(0, 50)
    assert np.array_equal(order.windows(17, 20), whole[17:37])
    assert np.array_equal(np.concatenate([order.windows(8 * step, 8) for step in range(6)]), whole[:48])


def test_looks_shuffled():
    """Correlation with the index, and between neighbours, of a random order of n is about 1 / sqrt(n) = 0.01."""
    windows = DataOrder(10_000, seed=1).windows(0, 10_000)
    assert abs(np.corrcoef(windows, np.arange(10_000))[0, 1]) < 0.04
    assert abs(np.corrcoef(windows[:-1], windows[1:])[0, 1]) < 0.04


def test_every_window_comes_equally_often_at_every_place():
    """3,000 epochs of 6 windows: each of the 36 cells expects 500; chi-squared with 25 degrees of freedom stays
    below 60 but once in ten thousand."""
    order = DataOrder(6, seed=0)
    epochs = order.windows(0, 6 * 3000).reshape(3000, 6)
    counts = np.array([[(epochs[:, place] == window).sum() for place in range(6)] for window in range(6)])
    assert ((counts - 500) ** 2 / 500).sum() < 60


def test_seeking_far_costs_nothing():
    order = DataOrder(10**12, seed=0)
    assert order.windows(10**15, 4).max() < 10**12
