"""What a rule is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from pipeline.telemetry.facts import HealthFacts
from pipeline.telemetry.verdicts import Evidence
from pipeline.telemetry.window import WINDOW_RECORDS, Window

FEWEST_STEPS, FEWEST_FLAT_STEPS = 150, 100
"""Healthy trainings of small models on little text are as good as frequencies after 60 to 100 steps."""

FEWEST_FLAT_TARGETS = 25_000
"""Losses of few tokens a step are too noisy to be called flat."""

FLAT = 0.005
"""By what part the loss of the second half of the steps so far has to fall: healthy trainings reach 0.02 and more."""

FALLING = 0.02
"""By what part it has to fall to show that the model learns, if slowly."""

FULL_STEPS, SLOWEST_FULL_STEPS, MOVED = 15, 75, 0.02
"""After steps that come to 15 of the full learning rate, healthy trainings have gone 0.06 to 0.6 of the way from the
loss of a uniform guess to that of frequencies; at a thirtieth of a good rate that takes 75. After 15 it is told where
a setting is known to be far off."""


@dataclass(frozen=True)
class Reading:
    """What a rule finds at one record.

    `shares`: how near the figure is to the limit of each severity, which is 1; the smallest limit comes first.
    `proves`: this record alone is enough. `remedy`: in the place of the rule's own, where the usual one would do harm.
    """

    severity: str
    evidence: Evidence
    shares: Mapping[str, float] = field(default_factory=dict)
    proves: bool = False
    remedy: str = ""

    @property
    def closeness(self) -> float:
        """The share of the smallest limit; 0 where there is none."""
        return next(iter(self.shares.values()), 0.0)


class Rule(ABC):
    """Judges one thing by the last records of a training and the facts of it. Has no state."""

    kind: ClassVar[str]
    what: ClassVar[str]
    """Its name. Unique."""

    remedy: ClassVar[str]
    """What to do, by names of settings."""

    source: ClassVar[str]
    """Where its threshold is from."""

    at_once: ClassVar[bool] = False
    """Whether one record proves it. Otherwise it has to hold in 3 of the last 5 that it can judge."""

    @abstractmethod
    def check(self, window: Window, facts: HealthFacts) -> Reading | None:
        """What it finds at the newest record; None where it cannot say."""


def above(
    value: float,
    limits: Mapping[str, float],
    window: Window | None,
    words: str,
    where: str = "",
    figures: Mapping[str, float] | None = None,
    base: float = 0.0,
) -> Reading:
    """The reading of a figure that is bad above its limits, by severity; the smallest limit comes first. How near it is
    is told from `base`: 0, or what is right or, above the limits, so wrong that nothing can be worse."""
    severity = next((name for name, limit in reversed(list(limits.items())) if value > limit), "healthy")
    smallest = next(iter(limits.values()))
    shown = {**(figures or {}), "threshold": limits.get(severity, smallest)}
    evidence = Evidence(window.step if window else None, words, where, shown)
    return Reading(severity, evidence, {name: _share(value - base, limit - base) for name, limit in limits.items()})


def _share(distance: float, limit: float) -> float:
    """How much of the distance from the base to the limit is used up; a limit below the base is one to stay away
    from."""
    if limit > 0:
        return max(0.0, distance / limit)
    return (limit / distance if distance < 0 else float("inf")) if limit < 0 else float(distance > 0)


def is_late(window: Window, facts: HealthFacts) -> bool:
    """Whether a model that learns must have begun to: twice the warm-up and a tenth of the training are over, and
    FEWEST_STEPS steps; FEWEST_FLAT_STEPS where the loss of the second half of them did not fall. A label a document
    teaches more slowly than one a token: there half of the training."""
    share = 0.1 if facts.predicts == "tokens" else 0.5
    is_flat = window.loss_at(0.5) is not None and not has_fallen(window, FLAT)
    is_told = facts.predicts == "tokens" and facts.batch_targets * window.step >= FEWEST_FLAT_TARGETS
    is_told = is_told and not facts.is_pretrained  # such a loss may be low already, or fall slowly on other text
    fewest = FEWEST_FLAT_STEPS if is_flat and is_told else FEWEST_STEPS
    return window.step >= max(fewest, 2 * facts.warmup_steps, share * facts.max_steps)


def has_fallen(window: Window, part: float) -> bool:
    """Whether the median loss fell by a part in the second half of the steps so far."""
    before = window.loss_at(0.5)
    return before is not None and before - window.loss >= part * before


def has_not_moved(window: Window, facts: HealthFacts, loss: float) -> bool:
    """Whether a loss is still that of a model that knows nothing, after as many steps as it takes to leave it, and a
    twentieth of the training. Of labels only those far from unit scale tell."""
    guess, frequencies = facts.guess_loss, facts.frequency_loss
    is_told = facts.has_odd_units or (facts.predicts == "tokens" and not facts.is_pretrained)
    if not is_told or guess is None or frequencies is None or guess - frequencies < 0.02 * guess:
        return False
    if facts.predicts == "numbers" and has_fallen(window, FALLING):
        return False
    fewest = FULL_STEPS if facts.unusual or facts.has_odd_units else SLOWEST_FULL_STEPS
    is_time = window.rate_steps >= fewest * facts.peak_rate and window.step >= 0.05 * facts.max_steps
    limit = MOVED if facts.predicts == "tokens" else 10 * MOVED
    return is_time and guess - loss < limit * (guess - frequencies)


SLOWER = "lower train.learning_rate, or raise train.warmup_steps"
"""What to do about what came in training."""


def remedy_by_start(window: Window, is_from_start: bool, at_start: str) -> str:
    """What to do: `at_start` about what was so before the first step, SLOWER about what was not; "" where there is no
    record of then."""
    return "" if not window.start else at_start if is_from_start else SLOWER


def is_full(window: Window) -> bool:
    """Whether the window has all the losses that it holds."""
    return len(window.losses) == WINDOW_RECORDS
