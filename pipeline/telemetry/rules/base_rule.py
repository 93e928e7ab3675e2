"""What a rule is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from pipeline.telemetry.facts import HealthFacts
from pipeline.telemetry.verdicts import Evidence
from pipeline.telemetry.window import WINDOW_RECORDS, Window


@dataclass(frozen=True)
class Reading:
    """What a rule finds at one record.

    `closeness`: how near a healthy figure is to the threshold, which is 1. `proves`: this record alone is enough.
    `remedy`: in the place of the rule's own, where the usual one would do harm.
    """

    severity: str
    evidence: Evidence
    closeness: float = 0.0
    proves: bool = False
    remedy: str = ""


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
) -> Reading:
    """The reading of a figure that is bad above its limits, by severity; the smallest limit comes first."""
    severity = next((name for name, limit in reversed(list(limits.items())) if value > limit), "healthy")
    smallest = next(iter(limits.values()))
    shown = {**(figures or {}), "threshold": limits.get(severity, smallest)}
    evidence = Evidence(window.step if window else None, words, where, shown)
    return Reading(severity, evidence, value / smallest if smallest > 0 else 0.0)


def is_late(window: Window, facts: HealthFacts) -> bool:
    """Whether a model that learns must have begun to: twice the warm-up and a tenth of the training are over, and 20
    records or 50 steps. A label a document teaches more slowly than one a token: there half of the training."""
    share = 0.1 if facts.predicts == "tokens" else 0.5
    is_long = window.step >= 50 or window.num_losses >= 20
    return is_long and window.step >= max(2 * facts.warmup_steps, share * facts.max_steps)


def is_full(window: Window) -> bool:
    """Whether the window has all the losses that it holds."""
    return len(window.losses) == WINDOW_RECORDS
