"""Losses and gradient norms that stand out from those of the steps before."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

SIGMAS_PER_DEVIATION = 1.4826
"""Standard deviations in a median absolute deviation, of normal values: 1 / Phi^-1(3/4)."""

TAIL, SIGMAS_TO_TAIL = 0.9, 1.2816
"""A quantile of normal values, and its distance from the median in standard deviations: Phi^-1(0.9)."""

LEAST_SPREAD = 1e-3
"""Relative to the median: losses that hardly vary, as of a tiny data set, make no spike of a rounding."""

LEAST_HALF = 16
"""Fewest values of which a median and a spread are taken where the whole window has enough."""

NEW_LEVEL = 0.25
"""Share of the window that has to be spikes, one after the other, to be a new level and no spikes any more."""


@dataclass(frozen=True)
class Deviation:
    """How far a value stands out: so many standard deviations above the median of so many steps before."""

    value: float
    deviations: float
    median: float
    num_steps: int

    def in_words(self, name: str) -> str:
        """The deviation of the figure `name`."""
        far = f"{name} {self.value:.4g} is {self.deviations:.1f} standard deviations"
        return f"{far} above the median {self.median:.4g} of {self.num_steps} steps"


def deviation_of(value: float, recent: Sequence[float]) -> Deviation:
    """How far a value lies above those before it, two or more. The oldest come first.

    It is measured in standard deviations as the median absolute deviation tells them, which outliers do not stretch
    (Iglewicz and Hoaglin 1993; Leys et al. 2013), or the ninth decile where that tells more: losses of a small batch
    of labels, most of them learned, have a long upper tail. Positive values are compared by their logarithms, so that
    a loss near zero or a gradient norm may vary in proportion to its size. Where the values fall, the later half
    counts. Zeros alone are no measure: nothing stands out from them.
    """
    is_positive = value > 0 and min(recent) > 0
    scaled = [math.log(each) for each in recent] if is_positive else list(recent)
    later = scaled[len(scaled) // 2 :]
    if len(later) >= LEAST_HALF and median(later) < median(scaled):
        scaled = later
    middle = median(scaled)
    tail = sorted(scaled)[math.ceil(TAIL * (len(scaled) - 1))]
    spread = SIGMAS_PER_DEVIATION * median(abs(each - middle) for each in scaled)
    spread = max(spread, (tail - middle) / SIGMAS_TO_TAIL, LEAST_SPREAD if is_positive else LEAST_SPREAD * abs(middle))
    excess = (math.log(value) if is_positive else value) - middle
    deviations = excess / spread if spread else 0.0
    return Deviation(value, deviations, math.exp(middle) if is_positive else middle, len(scaled))


MOST_NAMED = 3
"""Spikes of a training of which the documents are told."""


@dataclass
class NamedSpike:
    """A spike whose documents are told: its step, and whether it is `of` the loss or the gradient norm. `told_at`: the
    step of the record with which they were, None before; `words`: what was told, in process 0."""

    step: int
    of: str
    told_at: int | None = None
    words: str = ""


@dataclass
class SpikeWindow:
    """The values of the last steps, without spikes, that judge the next; and how many spikes there were."""

    values: list[float] = field(default_factory=list)
    spikes: int = 0
    spikes_in_a_row: int = 0

    def add(self, value: float, window: int, threshold: float) -> Deviation | None:
        """Take the value of one more step. Returns its deviation if it is a spike: more than `threshold` standard
        deviations above the last `window` values.

        Nothing is a spike before half a window has been seen, as the steep beginning of a run tells little about its
        spread. Where a quarter of a window are spikes, one after the other, the values begin anew.
        """
        if len(self.values) >= max(2, window // 2):
            found = deviation_of(value, self.values)
            if found.deviations > threshold:
                self.spikes += 1
                self.spikes_in_a_row += 1
                if self.spikes_in_a_row >= max(2, NEW_LEVEL * window):
                    self.values, self.spikes_in_a_row = [], 0
                return found
        self.spikes_in_a_row = 0
        self.values.append(value)
        del self.values[:-window]
        return None
