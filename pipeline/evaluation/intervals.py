"""Confidence intervals of figures: how far they would move with other held-out documents of the same kind."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.metrics.base_metric import FEWEST_DOCUMENTS

CONFIDENCE = 0.95
DRAWS = 1000

Interval = tuple[float, float]
"""Low and high end."""


def resampled_sums(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums of rows (documents, quantities) over as many documents drawn with replacement, (DRAWS, quantities).

    The documents of a draw are the same for any quantities, so that two models' sums are paired.
    """
    documents = len(rows)
    return np.stack([np.bincount(chosen, minlength=documents) @ rows for chosen in _draws(documents)])


def bootstrap(figure: Callable[[NDArray[np.int64]], float | None], documents: int) -> Interval | None:
    """The interval of a figure of the documents whose numbers it is given, some of them several times."""
    if documents < FEWEST_DOCUMENTS:
        return None
    return percentiles([figure(chosen) for chosen in _draws(documents)])


def percentiles(values: Sequence[float | None]) -> Interval | None:
    """What lies between the outer 2.5 % of the values of all draws; None where one of them is not defined.

    The percentile bootstrap: Efron 1979, "Bootstrap methods: another look at the jackknife".
    """
    known = [value for value in values if value is not None and math.isfinite(value)]
    if len(known) < len(values):
        return None
    low, high = np.quantile(known, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]).tolist()
    return low, high


def wilson(hits: int, trials: int) -> Interval:
    """Of the share of hits in independent trials.

    Wilson 1927, "Probable inference, the law of succession, and statistical inference".
    """
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    share, widening = hits / trials, 1 + z**2 / trials
    center = (share + z**2 / (2 * trials)) / widening
    half = z / widening * math.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
    return (center - half if hits else 0.0), (center + half if hits < trials else 1.0)


def _draws(documents: int) -> Iterator[NDArray[Any]]:
    """Numbers of the documents of each draw, the same each time."""
    generator = np.random.default_rng(0)
    for _ in range(DRAWS):
        yield generator.integers(0, documents, documents)
