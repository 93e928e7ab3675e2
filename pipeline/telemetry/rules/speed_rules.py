"""Rules of where the time goes."""

from __future__ import annotations

from typing import ClassVar

from pipeline.telemetry.facts import HealthFacts
from pipeline.telemetry.rules.base_rule import Reading, Rule, above
from pipeline.telemetry.window import Window

SHORTEST_WAIT = 0.020


class Waiting(Rule):
    """A large part of each step is a wait for data. Waits of less than 20 ms a step are those of tiny models on a busy
    machine."""

    kind: ClassVar = "speed"
    what: ClassVar = "waiting_for_data"
    remedy: ClassVar = "keep the run's folder on a faster disk, or give the process more cores"
    source: ClassVar = "calibrated: healthy trainings wait for 0.3 to 0.6 % of a step"

    def check(self, window: Window, facts: HealthFacts) -> Reading | None:
        times = {tag: value for tag, value in window.record.items() if tag.startswith("time/")}
        wait, whole = times.get("time/data_seconds"), sum(times.values())
        if wait is None or whole <= 0:
            return None
        words = f"{wait / whole:.0%} of a step's {whole:.3g} s are a wait for data, up to step {window.step:,}"
        share = wait / whole if wait > SHORTEST_WAIT else 0.0
        return above(share, {"warning": 0.2, "critical": 0.5}, window, words, figures={"share": wait / whole})


RULES = (Waiting(),)
