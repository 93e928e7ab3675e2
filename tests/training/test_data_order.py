from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.tokens.mixing import MixedSource
from pipeline.training.data_order import DataOrder, MixtureOrder


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


def mixture(*windows_and_draws: tuple[int, int]) -> list[MixedSource]:
    sources, first = [], 0
    for number, (windows, draws) in enumerate(windows_and_draws):
        sources.append(MixedSource(f"s{number}", first, windows, windows, draws))
        first += windows
    return sources


MIXTURES = st.lists(st.tuples(st.integers(1, 40), st.integers(1, 100)), min_size=1, max_size=4)


@settings(max_examples=50, deadline=None)
@given(MIXTURES, st.integers(0, 10**9))
def test_an_epoch_draws_of_each_source_what_it_should_and_spreads_it_over_its_windows(windows_and_draws, epoch):
    sources = mixture(*windows_and_draws)
    order = MixtureOrder(sources, seed=3)
    drawn = order.windows(epoch * order.num_windows, order.num_windows)
    counts = np.bincount(drawn, minlength=sum(one.windows for one in sources))
    for one in sources:
        own = counts[one.first_window : one.first_window + one.windows]
        assert own.sum() == one.draws
        assert set(own) <= {one.draws // one.windows, -(-one.draws // one.windows)}


@settings(max_examples=30, deadline=None)
@given(MIXTURES, st.integers(0, 300), st.integers(1, 50))
def test_any_slice_of_a_mixture_is_a_part_of_the_same_sequence(windows_and_draws, start, count):
    order = MixtureOrder(mixture(*windows_and_draws), seed=1)
    assert np.array_equal(order.windows(start, count), order.windows(0, 350)[start : start + count])


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=4), st.integers(0, 5))
def test_sources_that_are_all_drawn_once_have_the_order_without_a_mixture(windows, seed):
    order, plain = MixtureOrder(mixture(*zip(windows, windows, strict=True)), seed), DataOrder(sum(windows), seed)
    assert np.array_equal(order.windows(0, 500), plain.windows(0, 500))


def test_of_a_source_with_less_than_an_epoch_no_window_comes_again_before_all_did():
    order = MixtureOrder(mixture((90, 10), (5, 20)), seed=0)
    drawn = order.windows(0, 9 * 30)
    own = drawn[drawn < 90]
    assert sorted(own) == list(range(90))
    assert abs(np.corrcoef(own, np.arange(90))[0, 1]) < 0.4  # not the first documents first


def test_a_mixture_differs_from_epoch_to_epoch_and_from_seed_to_seed():
    sources = mixture((300, 100), (100, 200))
    first, second = MixtureOrder(sources, 0).windows(0, 600).reshape(2, 300)
    assert (first == second).mean() < 0.05
    assert (first == MixtureOrder(sources, 1).windows(0, 300)).mean() < 0.05


def test_seeking_far_in_a_mixture_costs_nothing():
    sources = mixture((10**12, 3 * 10**11), (10**9, 4 * 10**9))
    found = MixtureOrder(sources, seed=0).windows(10**15, 1000)
    assert found.min() >= 0
    assert found.max() < 10**12 + 10**9
    assert (found >= 10**12).sum() < 40  # 4 of 304
