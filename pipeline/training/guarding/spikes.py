"""Losses that stand out from those of the steps before."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

LEAST_SPREAD = 1e-3
"""Relative to the mean: losses that hardly vary, as of a tiny data set, make no spike of a rounding."""


def spike_in(loss: float, recent: Sequence[float], window: int, threshold: float) -> str | None:
    """What is odd about a loss, given those of the steps before; None where nothing is.

    It is a spike when it lies more than `threshold` standard deviations above the mean of the last `window` losses.
    Nothing is said before half a window has been seen, as the steep beginning of a run tells little about its spread.
    """
    last = recent[-window:]
    if len(last) < max(2, window // 2):
        return None
    mean = statistics.fmean(last)
    spread = max(statistics.pstdev(last, mean), LEAST_SPREAD * abs(mean))
    deviations = (loss - mean) / spread
    if deviations <= threshold:
        return None
    return f"loss {loss:.3f} is {deviations:.1f} standard deviations above the mean {mean:.3f} of {len(last)} steps"
