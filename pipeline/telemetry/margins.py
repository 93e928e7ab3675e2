"""How far healthy trainings stay from the thresholds of the rules. Imports nothing heavy."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping

from pipeline.telemetry.facts import HealthFacts
from pipeline.telemetry.panel import HOLDS_IN
from pipeline.telemetry.rules import RULES
from pipeline.telemetry.window import WINDOW_RECORDS, Window

MARGINS = {"warning": 1.5, "critical": 2.0}
"""By how much healthy trainings have to stay away from a limit, by its severity. A note may be told of them."""

Shares = dict[str, dict[str, float]]
"""By rule and severity: the worst figure's part of the limit, which is 1."""


def worst_shares(facts: HealthFacts, records: Iterable[Mapping[str, float]]) -> Shares:
    """The worst shares of a training, of what decides: one record, or the third worst of five."""
    window, found = Window(), Shares()
    last = {rule.what: deque[Mapping[str, float]](maxlen=WINDOW_RECORDS) for rule in RULES}
    for record in records:
        window.add(record, facts.warmup_steps)
        for rule in RULES:
            reading = rule.check(window, facts)
            if reading is None:
                continue
            last[rule.what].append(reading.shares)
            for severity in reading.shares:
                ranked = sorted((one.get(severity, 0.0) for one in last[rule.what]), reverse=True)
                third = ranked[HOLDS_IN - 1] if len(ranked) >= HOLDS_IN else 0.0
                decides = reading.shares[severity] if rule.at_once else third
                worst = found.setdefault(rule.what, {})
                worst[severity] = max(worst.get(severity, 0.0), decides)
    return found


def margin(share: float) -> float:
    """Times that a figure could be worse before it meets its limit."""
    return 1 / share if share > 0 else float("inf")
