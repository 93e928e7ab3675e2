"""Judges a training at every record. Imports nothing heavy."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import replace

from pipeline.telemetry.facts import HealthFacts
from pipeline.telemetry.rules import RULES
from pipeline.telemetry.rules.base_rule import Reading, Rule
from pipeline.telemetry.unmeasured import Unmeasured
from pipeline.telemetry.verdicts import CAUSES, CONSEQUENCES, LEVELS, Evidence, Verdict, by_severity, with_its_cause
from pipeline.telemetry.window import WINDOW_RECORDS, Window

HOLDS_IN = 3
"""Of the last WINDOW_RECORDS records that a rule can judge, those in which it must hold; and in a row not hold, to be
over."""


class HealthPanel:
    """The verdicts of a training, from its facts and its records alone: the same records give the same verdicts, so a
    resumed training is judged as a whole one."""

    def __init__(self, facts: HealthFacts) -> None:
        self.facts = facts
        self._window, self._unmeasured = Window(), Unmeasured()
        self._readings: dict[str, deque[tuple[int, Reading]]] = {
            rule.what: deque(maxlen=WINDOW_RECORDS) for rule in RULES
        }
        self._found: dict[str, Verdict] = {}
        self._over: dict[str, Verdict] = {}  # what was critical once, by rule

    @property
    def step(self) -> int:
        """Of the last record."""
        return self._window.step

    def add(self, record: Mapping[str, float]) -> list[Verdict]:
        """Judge one record, with its `step`. Returns the verdicts that changed; one that is over is `healthy`, and what
        the record is the first to leave out `unknown`."""
        self._window.add(record, self.facts.warmup_steps)
        changed = self._unmeasured.add(record)
        for rule in RULES:
            if (reading := rule.check(self._window, self.facts)) is None:
                continue
            self._readings[rule.what].append((self._window.step, reading))
            before, now = self._found.get(rule.what), self._judge(rule, HOLDS_IN)
            if now is None:
                continue
            self._found[rule.what] = now
            if now.verdict == "critical":
                self._over[rule.what] = now
            if now.verdict != (before.verdict if before else "healthy"):
                changed.append(now)
        return [with_its_cause(one, self._found.values()) for one in changed]

    def _judge(self, rule: Rule, holds_in: int) -> Verdict | None:
        """What the last readings of a rule come to; None where they decide nothing."""
        readings = self._readings[rule.what]
        if rule.at_once:
            severity = readings[-1][1].severity
        else:
            severities = sorted((reading.severity for _, reading in readings), key=LEVELS.__getitem__, reverse=True)
            severity = severities[holds_in - 1] if len(severities) >= holds_in else "healthy"
            if any(reading.proves for _, reading in readings):
                severity = severities[0]
            is_over = all(LEVELS[reading.severity] == 0 for _, reading in list(readings)[-HOLDS_IN:])
            if LEVELS[severity] == 0 and not is_over:
                return None
        bad = [(step, reading) for step, reading in readings if LEVELS[reading.severity] > 0]
        if LEVELS[severity] == 0:
            return Verdict(rule.kind, rule.what, "healthy", readings[-1][1].evidence, rule.remedy, rule.source)
        before = self._found.get(rule.what)
        since = before.since if before is not None and not before.is_healthy else bad[0][0]
        last = bad[-1][1]
        remedy = last.remedy or rule.remedy
        return Verdict(rule.kind, rule.what, severity, last.evidence, remedy, rule.source, since)

    def levels(self) -> dict[str, float]:
        """`health/<kind>` -> 0 for healthy or unknown, 1 for a note, 2 for a warning, 3 for what is critical.

        Of what the records showed. What the facts alone tell is the same at each step, and not that of a longer
        training."""
        levels = {f"health/{rule.kind}": 0.0 for rule in RULES if self._readings[rule.what]}
        for verdict in self._found.values():
            if verdict.evidence.step is None:
                continue
            tag = f"health/{verdict.kind}"
            levels[tag] = max(levels[tag], float(LEVELS[verdict.verdict]))
        return levels

    def verdicts(self, event: Verdict | None = None, *, is_over: bool = True) -> list[Verdict]:
        """What is to be said after the last record, worst first: the findings, and one verdict for each kind that has
        none. What was critical and is over is a note. A training that is over with too few records to be sure is judged
        by those that it has. An `event` that no record holds is among them."""
        found, past = [] if event is None else [event], []
        for rule in RULES:
            readings = self._readings[rule.what]
            verdict = self._found.get(rule.what)
            if is_over and readings and (verdict is None or verdict.is_healthy):
                verdict = self._judge(rule, min(HOLDS_IN, len(readings)))
            if verdict is not None and not verdict.is_healthy:
                found.append(verdict)
            elif (over := self._over.get(rule.what)) is not None:
                words = f"it was critical from step {over.since:,} on, and is over; when it last was, "
                words += over.evidence.words
                past.append(replace(over, verdict="note", evidence=replace(over.evidence, words=words)))
        # What broke a training remains its worst verdict as long as that learns nothing.
        has_failed = any(one.verdict == "critical" and one.what in CONSEQUENCES for one in found)
        found += [replace(one, verdict="critical") if has_failed and one.what in CAUSES else one for one in past]
        found = [with_its_cause(verdict, found) for verdict in found]
        unknown = self._unmeasured.verdicts()
        told = {verdict.kind for verdict in found}
        for kind in dict.fromkeys(rule.kind for rule in RULES):
            if kind not in told and (verdict := self._healthy(kind, is_over)) is not None:
                # A reason is better than none.
                found += [] if verdict.verdict == "unknown" and any(one.kind == kind for one in unknown) else [verdict]
        return by_severity([*found, *unknown])

    def _healthy(self, kind: str, is_over: bool) -> Verdict | None:
        """The figure of a kind that is nearest to its threshold; None of a model without experts."""
        last = []
        for rule in RULES:
            if rule.kind == kind and (readings := self._readings[rule.what]):
                # One that is bad, and too few to decide, is no figure to show for health.
                healthy = [reading for _, reading in readings if LEVELS[reading.severity] == 0]
                last.append((rule, (healthy or [readings[-1][1]])[-1]))
        if not last:
            words = "nothing was measured" if is_over else "nothing was measured yet"
            return None if kind == "experts" else Verdict(kind, kind, "unknown", Evidence(None, words))
        rule, reading = max(last, key=lambda one: one[1].closeness)
        return Verdict(kind, kind, "healthy", reading.evidence, "", rule.source)


def replay(facts: HealthFacts, records: Iterable[Mapping[str, float]]) -> HealthPanel:
    """A panel that has seen the records."""
    panel = HealthPanel(facts)
    for record in records:
        panel.add(record)
    return panel
