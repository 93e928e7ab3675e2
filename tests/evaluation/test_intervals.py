"""Intervals hold what they promise: exact where all draws can be listed, and as often right as they say."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from pipeline.evaluation.intervals import CONFIDENCE, bootstrap, percentiles, resampled_sums, wilson
from pipeline.evaluation.metrics.accuracy import Accuracy
from pipeline.evaluation.metrics.bits_per_byte import BitsPerByte
from pipeline.evaluation.metrics.mse import MeanSquaredError
from pipeline.evaluation.scores import compare_bits, compare_labels, score


def test_draws_are_those_of_all_that_can_be_drawn() -> None:
    rows = np.array([[5.0, 2], [1, 3], [9, 4], [2, 2], [7, 9], [4, 1]])
    every = np.array([rows[list(chosen)].sum(0) for chosen in itertools.product(range(6), repeat=6)])
    exact = percentiles((every[:, 0] / every[:, 1]).tolist())
    drawn = resampled_sums(rows)
    assert percentiles((drawn[:, 0] / drawn[:, 1]).tolist()) == pytest.approx(exact, rel=0.05)
    assert (drawn == resampled_sums(rows)).all()


def test_an_interval_is_right_as_often_as_it_says() -> None:
    """Of the mean of 30 skewed values, over 120 samples: percentile intervals are known to be a little short."""
    draw = np.random.default_rng(1)
    hits = 0
    for _ in range(120):
        values = draw.gamma(4.0, size=30)
        low, high = bootstrap(lambda chosen: float(values[chosen].mean()), 30)  # noqa: B023
        hits += low <= 4.0 <= high
    assert 0.87 <= hits / 120 <= 0.99


@pytest.mark.parametrize("share", [0.05, 0.5, 0.93])
def test_wilsons_interval_is_right_as_often_as_it_says(share: float) -> None:
    trials = 60
    chances = [math.comb(trials, hits) * share**hits * (1 - share) ** (trials - hits) for hits in range(trials + 1)]
    covered = sum(
        chances[hits] for hits in range(trials + 1) if wilson(hits, trials)[0] <= share <= wilson(hits, trials)[1]
    )
    assert covered == pytest.approx(CONFIDENCE, abs=0.03)
    for hits in (0, 7, 60):  # its ends are where the observed share is 1.96 standard errors away
        for end in wilson(hits, trials):
            if 0 < end < 1:
                assert abs(hits / trials - end) == pytest.approx(
                    1.959964 * math.sqrt(end * (1 - end) / trials), rel=1e-6
                )


def rows_of(bits: np.ndarray) -> np.ndarray:
    """Documents of 100 bytes and 20 tokens."""
    ones = np.ones(len(bits))
    return np.column_stack([bits * math.log(2), 20 * ones, 5 * ones, 100 * ones, ones, 0 * ones, 6 * ones])


def test_a_difference_is_paired_by_document() -> None:
    """Documents differ far more than the models do, and the better one is better in nearly every document."""
    draw = np.random.default_rng(2)
    own = draw.uniform(50, 400, 40)
    rows, other = rows_of(own), own * 1.02 + draw.normal(0, 1, 40)
    low, high = compare_bits(rows, other)["difference"]
    assert high < 0
    alone = score(rows, [BitsPerByte()])["intervals"]["bits_per_byte"]
    assert alone[1] - alone[0] > 10 * (high - low)
    found = compare_bits(rows, float(other.sum()))  # of a sum alone the noise of the documents remains
    assert found["bits_per_byte"] == pytest.approx(other.sum() / 4000)
    assert found["difference"] == pytest.approx([end - found["bits_per_byte"] for end in alone])


def test_what_chance_gives_is_within_the_noise() -> None:
    """Right 4 more of 100 than always the same answer."""
    references = np.array([0] * 48 + [1] * 52)
    predictions = np.array([0] * 26 + [1] * 22 + [1] * 30 + [0] * 22)
    found = compare_labels(predictions, np.ones(100, dtype=int), references, Accuracy())
    assert found[0] < 0.04 < found[1]
    assert found[0] < 0
    better = compare_labels(references, np.ones(100, dtype=int), references, Accuracy())
    assert better[0] > 0.3


def test_where_little_is_known_there_is_no_interval() -> None:
    rows = rows_of(np.arange(1.0, 10))
    assert score(rows, [BitsPerByte()])["intervals"] == {}
    assert compare_bits(rows, 5.0)["difference"] is None
    assert compare_labels(np.ones(9), np.zeros(9), np.ones(9), MeanSquaredError()) is None
    assert percentiles([1.0, None]) is None


def test_a_metric_of_ones_own_is_not_drawn_unless_it_says_so() -> None:
    class Fragile(MeanSquaredError, type="fragile"):
        has_interval = False

        def compute(self, predictions, references):
            assert len(set(references.tolist())) == len(references), "not made for draws"
            return 1.0

    values = np.arange(20.0)
    assert Fragile().compute(values, values) == 1.0
    assert Fragile().interval(values, values) is None
    assert compare_labels(values, values, values, Fragile()) is None
