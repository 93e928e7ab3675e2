"""Rules of a mixture's experts."""

from __future__ import annotations

from typing import ClassVar

from pipeline.telemetry.facts import HealthFacts
from pipeline.telemetry.rules.base_rule import Reading, Rule, above
from pipeline.telemetry.window import Window

LOAD = "train/expert_load/"


class IdleExpert(Rule):
    """An expert gets less than a tenth of the tokens that an even share would give it, by the mean over the layers."""

    kind: ClassVar = "experts"
    what: ClassVar = "idle_experts"
    remedy: ClassVar = "raise train.router_aux_loss_coef, lower train.learning_rate"
    source: ClassVar = "calibrated: healthy loads are 0.3 of the even share or more; Fedus et al. 2021 for the remedy"

    def check(self, window: Window, facts: HealthFacts) -> Reading | None:
        loads = {tag.removeprefix(LOAD): load for tag, load in window.record.items() if tag.startswith(LOAD)}
        if len(loads) < 2 or (total := sum(loads.values())) <= 0:
            return None
        fair = total / len(loads)
        least = min(loads, key=lambda expert: loads[expert])
        idle = [expert for expert, load in loads.items() if load < 0.1 * fair]
        words = (
            f"expert {least} gets {loads[least] / fair:.2g} of its even share of the tokens up to step {window.step:,}"
        )
        words += f"; below 0.1: {len(idle)} of {len(loads)} experts" if idle else ""
        missing = 1 - loads[least] / fair
        figures = {"least": loads[least] / fair, "most": max(loads.values()) / fair}
        return above(missing, {"warning": 0.9, "critical": 0.99}, window, words, figures=figures)


RULES = (IdleExpert(),)
