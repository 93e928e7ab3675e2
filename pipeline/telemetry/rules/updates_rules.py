"""Rules of the updates: ||update|| / ||weights|| of each layer.

About 1e-3 is the usual advice (Karpathy, "Neural Networks: Zero to Hero", part 4). Two orders above it weights are
overwritten rather than refined, two orders below it they hardly move. Layers that start small may take steps of a
quarter of their norm at first.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from pipeline.telemetry.facts import HealthFacts
from pipeline.telemetry.layer_series import names_in_words
from pipeline.telemetry.rules.base_rule import Reading, Rule, above
from pipeline.telemetry.window import Window

UNSTABLE_UPDATE, OVERWRITING_UPDATE, PROVEN_UPDATE = 0.5, 1.0, 10.0
STALLED_UPDATE = 1e-5
DECAY = 0.01
"""Of the weights, a step: they forget in 100 steps what they were."""

ADVICE = 'Karpathy, "Neural Networks: Zero to Hero", part 4'


def update_ratios(window: Window) -> dict[str, float]:
    """By layer; layers whose weights are zero, such as fresh biases, have none yet."""
    return {name: figures["update_ratio"] for name, figures in window.layers.items() if figures["param_norm"] > 0}


class Unstable(Rule):
    """Steps change a layer by more than half of its norm, or one by ten times as much as there was."""

    kind: ClassVar = "updates"
    what: ClassVar = "unstable_updates"
    remedy: ClassVar = "lower train.learning_rate, or raise train.warmup_steps"
    source: ClassVar = f"{ADVICE}: about 1e-3; calibrated: healthy trainings reach 0.27 in their first steps"

    def check(self, window: Window, facts: HealthFacts) -> Reading | None:
        ratios = update_ratios(window)
        if not ratios:
            return None
        most = max(ratios, key=lambda name: ratios[name])
        high = [name for name, ratio in ratios.items() if ratio > UNSTABLE_UPDATE]
        words = f"step {window.step:,} changes {most} by {ratios[most]:.2g} of its norm"
        words += f"; above {UNSTABLE_UPDATE:g}: {names_in_words(high)}" if high else ""
        limits = {"warning": UNSTABLE_UPDATE, "critical": OVERWRITING_UPDATE}
        reading = above(ratios[most], limits, window, words, names_in_words(high))
        return replace(reading, proves=ratios[most] > PROVEN_UPDATE)


class Stalled(Rule):
    """More than half of the layers hardly move, although the learning rate is not at its end."""

    kind: ClassVar = "updates"
    what: ClassVar = "stalled_updates"
    remedy: ClassVar = "raise train.learning_rate"
    source: ClassVar = ADVICE

    def check(self, window: Window, facts: HealthFacts) -> Reading | None:
        ratios, rate = sorted(update_ratios(window).values()), window.record.get("train/learning_rate", 0.0)
        if not ratios or rate < facts.peak_rate / 2 or rate == 0:
            return None
        middle = ratios[len(ratios) // 2]
        words = f"step {window.step:,} changes half of the layers by {middle:.2g} of their norm or less"
        return above(STALLED_UPDATE / middle if middle else 2.0, {"critical": 1.0}, window, words)


class StrongDecay(Rule):
    """Weight decay takes so much of the weights at each step that they follow the last gradients alone."""

    kind: ClassVar = "updates"
    what: ClassVar = "strong_decay"
    remedy: ClassVar = "lower train.weight_decay, which takes the learning rate times itself of the weights a step"
    source: ClassVar = "Loshchilov & Hutter 2019, on decoupled decay; calibrated: 0.03 % a step is healthy"

    def check(self, window: Window, facts: HealthFacts) -> Reading | None:
        shares = sorted(
            decay / norm
            for tag, decay in window.record.items()
            if tag.endswith("/decay_norm") and decay > 0 and (norm := window.record[of_weights(tag)]) > 0
        )
        if not shares:
            return None
        middle = shares[len(shares) // 2]
        words = f"weight decay takes {middle:.2%} of a matrix at step {window.step:,}, and more of half of them"
        return above(middle, {"warning": DECAY}, window, words, figures={"share": middle})


def of_weights(tag: str) -> str:
    """The tag of a matrix's weight norm, from one of its other tags."""
    return tag.rpartition("/")[0] + "/weight_norm"


RULES = (Unstable(), Stalled(), StrongDecay())
