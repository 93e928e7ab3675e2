from __future__ import annotations

import math
import random
from statistics import NormalDist

import numpy as np
import pytest

from pipeline.training.guarding.spikes import SpikeWindow, deviation_of

LOSSES = [4.0, 4.1, 3.9, 4.0, 4.2, 3.8, 4.0, 4.05]


def window_of(values, window=128):
    return SpikeWindow(list(values[-window:]))


def robust_z(value, values):
    middle = np.median(values)
    by_deviations = np.median(np.abs(np.array(values) - middle)) / NormalDist().inv_cdf(0.75)
    by_tail = (np.quantile(values, 0.9, method="higher") - middle) / NormalDist().inv_cdf(0.9)
    return (value - middle) / max(by_deviations, by_tail)


def test_the_deviation_is_the_robust_one_of_logarithms():
    found = deviation_of(4.6, LOSSES)
    assert found.deviations == pytest.approx(robust_z(math.log(4.6), np.log(LOSSES)), rel=1e-4)  # 1.4826 is rounded
    assert (found.value, found.num_steps) == (4.6, 8)
    assert found.median == pytest.approx(4.0)
    values = [-1.0, 0.0, 1.0, 2.0, 3.0]  # which have no logarithm
    assert deviation_of(8.0, values).deviations == pytest.approx(robust_z(8.0, values), rel=1e-4)


@pytest.mark.parametrize("share", [0.0, 0.05, 0.09])
def test_outliers_in_the_window_do_not_hide_the_next(share):
    values = [random.Random(0).gauss(4, 0.05) for _ in range(100)]
    values = [9.0 if place < share * 100 else value for place, value in enumerate(values)]
    random.Random(1).shuffle(values)
    assert deviation_of(9.0, values).deviations > 6
    mean, deviation = np.mean(values), np.std(values)
    assert share == 0 or (9.0 - mean) / deviation < 6, "by the mean they do"


def test_what_comes_again_and_again_is_no_spike():
    usual = [0.006, 0.007, 0.008] * 18  # most labels are learned; now and then one is not
    assert deviation_of(0.3, [*usual, 0.3, 0.3]).deviations > 6
    assert deviation_of(0.3, [*usual, *[0.3] * 8]).deviations < 6


def test_a_spike_does_not_judge_the_next_and_so_each_of_several_is_told():
    window = window_of(LOSSES * 8)
    before = list(window.values)
    assert window.add(9.0, 64, 6) is not None
    assert window.add(4.0, 64, 6) is None
    assert window.add(9.0, 64, 6) is not None
    assert window.spikes == 2
    assert window.values == [*before[1:], 4.0]


def test_a_value_that_stays_is_a_new_level_and_not_spikes_for_ever():
    noise = random.Random(3)
    window = window_of([noise.gauss(2, 0.05) for _ in range(64)], 64)
    told = [window.add(noise.gauss(4, 0.05), 64, 6) is not None for _ in range(200)]
    assert told == [True] * 16 + [False] * 184
    assert window.add(8.0, 64, 6) is not None, "judged by the new level"


def test_falling_losses_are_compared_with_the_latest():
    falling = [8.0 - 0.05 * step for step in range(64)]  # to 4.85
    found = deviation_of(7.0, falling)
    assert found.num_steps == 32
    assert found.median == pytest.approx(5.6, rel=0.01)
    rising = falling[::-1]
    assert deviation_of(9.0, rising).num_steps == 64


def test_a_low_value_is_no_spike():
    assert window_of(LOSSES).add(0.1, 8, 6) is None
    assert deviation_of(0.1, LOSSES).deviations < 0


def test_nothing_is_said_before_half_a_window_and_only_the_window_counts():
    assert SpikeWindow(LOSSES[:3]).add(9.0, 8, 6) is None
    assert SpikeWindow(LOSSES[:4]).add(9.0, 8, 6) is not None
    window = SpikeWindow()
    for loss in [100.0, 100.0, 100.0, *LOSSES]:
        window.add(loss, 8, 6)
    assert window.values == LOSSES


def test_values_that_do_not_vary_make_no_spike_of_a_rounding():
    for value in (4.0, 1e-6, -4.0):
        assert deviation_of(value + 0.0025 * abs(value), [value] * 8).deviations < 6
    assert deviation_of(1.0, [0.0] * 8).deviations == 0


def test_what_is_told():
    told = deviation_of(9.0, LOSSES).in_words("loss")
    assert told.startswith("loss 9 is ")
    assert told.endswith(" standard deviations above the median 4 of 8 steps")
