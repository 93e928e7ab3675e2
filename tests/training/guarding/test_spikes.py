from __future__ import annotations

import pytest

from pipeline.training.guarding.spikes import spike_in

LOSSES = [4.0, 4.1, 3.9, 4.0, 4.2, 3.8, 4.0, 4.0]  # mean 4, standard deviation 0.1118


@pytest.mark.parametrize(("loss", "threshold", "is_spike"), [(4.6, 6, False), (4.7, 6, True), (4.7, 7, False)])
def test_a_spike_is_so_many_standard_deviations_above_the_mean(loss, threshold, is_spike):
    assert (spike_in(loss, LOSSES, window=8, threshold=threshold) is not None) == is_spike


def test_what_is_told():
    told = spike_in(9.0, LOSSES, window=8, threshold=6)
    assert told == "loss 9.000 is 44.7 standard deviations above the mean 4.000 of 8 steps"


def test_a_low_loss_is_no_spike():
    assert spike_in(0.1, LOSSES, window=8, threshold=6) is None


def test_nothing_is_said_before_half_a_window_and_only_the_window_counts():
    assert spike_in(9.0, LOSSES[:3], window=8, threshold=6) is None
    assert spike_in(9.0, LOSSES[:4], window=8, threshold=6) is not None
    assert spike_in(9.0, [100.0, 1.0, *LOSSES], window=8, threshold=6) is not None


def test_losses_that_do_not_vary_make_no_spike_of_a_rounding():
    assert spike_in(4.01, [4.0] * 8, window=8, threshold=6) is None
