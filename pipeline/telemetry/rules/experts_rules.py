"""Rules of a mixture's experts."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from pipeline.telemetry.facts import HealthFacts
from pipeline.telemetry.layer_series import names_in_words
from pipeline.telemetry.probe_figures import EXPERTS, figure_by_module
from pipeline.telemetry.rules.base_rule import Reading, Rule, above, is_late
from pipeline.telemetry.rules.loss_rules import NO_BETTER, usual_settings
from pipeline.telemetry.verdicts import Evidence
from pipeline.telemetry.window import Window

LOAD = "train/expert_load/"
FEWEST_TOKENS = 32
"""Of the probe, for each expert: loads of fewer are chance."""

UNDECIDED, FROZEN = 0.9999, 0.02
"""Of the entropy of choosing evenly."""


LOWER = "lower train.router_aux_loss_coef and train.router_z_loss_coef: they outweigh the loss itself"


def _router_losses(window: Window, facts: HealthFacts) -> float:
    """What the router's losses add to what is minimized."""
    return sum(one * window.record.get(f"train/{name}", 0.0) for name, one in facts.router_coefficients.items())


def _outweighs(window: Window, facts: HealthFacts) -> bool:
    """Whether the router's losses are more of the objective than the loss is."""
    return _router_losses(window, facts) > window.record.get("train/loss", 0.0) > 0


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
        reading = above(missing, {"warning": 0.9, "critical": 0.99}, window, words, figures=figures, base=1.0)
        usual = usual_settings(facts, "router_aux_loss_coef")
        return replace(reading, remedy=usual or (LOWER if _outweighs(window, facts) else ""))


class CollapsedRouter(Rule):
    """In one layer nearly all tokens go to the same experts. Fresh routers are uneven: a loss that balances them takes
    its time, and without one the first steps count only where all tokens go to them."""

    kind: ClassVar = "experts"
    what: ClassVar = "collapsed_router"
    remedy: ClassVar = "raise train.router_aux_loss_coef or train.router_z_loss_coef, lower train.learning_rate"
    source: ClassVar = "Shazeer et al. 2017; Fedus et al. 2022; calibrated: fresh layers reach 1.9 of the even share"

    def check(self, window: Window, facts: HealthFacts) -> Reading | None:
        loads = figure_by_module(window.record, EXPERTS, "load_most")
        if not loads or not facts.num_experts or not facts.top_k or facts.top_k >= facts.num_experts:
            return None
        if facts.probe_tokens * facts.top_k < FEWEST_TOKENS * facts.num_experts:
            return None  # loads of so few tokens are chance
        most = facts.num_experts / facts.top_k
        limit = min(0.95 * most, 3.0)
        highest = max(loads, key=lambda name: loads[name])
        is_settled = window.step >= max(2 * facts.warmup_steps, 100 if facts.is_balanced else 50)
        if facts.is_balanced and not is_settled:
            return None
        limits = {"warning": limit / most, "critical": 0.99} if is_settled else {"critical": 0.99}
        high = [name for name, load in loads.items() if load > most * next(iter(limits.values()))]
        words = f"the busiest expert of {highest} gets {loads[highest]:.3g} times its even share at step "
        words += f"{window.step:,}; all tokens are {most:.3g} times"
        words += f"; too much in {names_in_words(high)}" if high else ""
        figures = {"load": loads[highest], "all": most}
        reading = above(loads[highest] / most, limits, window, words, names_in_words(high), figures, base=1.0)
        usual = usual_settings(facts, "router_aux_loss_coef")
        return replace(reading, remedy=usual or (LOWER if _outweighs(window, facts) else ""))


class RouterEntropy(Rule):
    """A router that does not tell tokens apart after training has begun in earnest, or that leaves no doubt at all."""

    kind: ClassVar = "experts"
    what: ClassVar = "router_entropy"
    remedy: ClassVar = "lower train.router_aux_loss_coef or train.router_z_loss_coef; see train.learning_rate"
    source: ClassVar = "Zoph et al. 2022 (ST-MoE), on routers; calibrated: 0.75 to 0.98 is healthy"

    def check(self, window: Window, facts: HealthFacts) -> Reading | None:
        entropies = figure_by_module(window.record, EXPERTS, "router_entropy")
        if not entropies or not is_late(window, facts):
            return None
        least, most = min(entropies.values()), max(entropies.values())
        words = (
            f"the entropies of the routers are {least:.3g} to {most:.6g} at step {window.step:,}, where 1 is choosing "
        )
        words += "evenly among all experts and 0 always the same ones"
        figures = {"least": least, "most": most}
        has_learned = facts.frequency_loss is None or window.loss <= NO_BETTER * facts.frequency_loss
        if least > UNDECIDED and not has_learned:
            where = names_in_words(list(entropies))
            remedy = LOWER if _outweighs(window, facts) else "raise train.learning_rate"
            return Reading("warning", Evidence(window.step, words, where, figures), remedy=remedy)
        frozen = [name for name, entropy in entropies.items() if entropy < FROZEN]
        share = FROZEN / least if least > 0 else 1e9
        reading = above(share, {"warning": 1.0}, window, words, names_in_words(frozen), figures)
        return replace(reading, remedy=LOWER if _outweighs(window, facts) else CollapsedRouter.remedy)


class RouterLosses(Rule):
    """What is minimized is the router's losses more than the loss itself, so that the model learns little but to spread
    tokens evenly. Of a loss below 1 it is held against 1."""

    kind: ClassVar = "experts"
    what: ClassVar = "router_losses"
    remedy: ClassVar = LOWER
    source: ClassVar = "Fedus et al. 2022, on a coefficient of 0.01; calibrated: less than a twentieth of the loss"

    def check(self, window: Window, facts: HealthFacts) -> Reading | None:
        loss, added = window.record.get("train/loss"), _router_losses(window, facts)
        if loss is None or "train/router_balance_loss" not in window.record:
            return None
        words = f"at step {window.step:,} the router's losses add {added:.4g} to a loss of {loss:.4g}"
        figures = {"loss": loss, "router_losses": added}
        return above(added / max(loss, 1.0), {"warning": 1.0}, window, words, figures=figures)


RULES = (IdleExpert(), CollapsedRouter(), RouterEntropy(), RouterLosses())
