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
from pipeline.telemetry.matrix_figures import figures_of_matrices
from pipeline.telemetry.rules.base_rule import SLOWER, Reading, Rule, above
from pipeline.telemetry.window import Window

UNSTABLE_UPDATE, OVERWRITING_UPDATE, PROVEN_UPDATE = 0.5, 1.0, 10.0
STALLED_UPDATE = 1e-5
FASTEST_GROWTH = 4.0
DECAY, MOST_DECAY = 0.01, 0.1
"""Of the weights, a step: they forget in 100 steps what they were, and in 10."""

ADVICE = 'Karpathy, "Neural Networks: Zero to Hero", part 4'


def update_ratios(window: Window) -> dict[str, float]:
    """By layer; layers whose weights are zero, such as fresh biases, have none yet."""
    return {name: figures["update_ratio"] for name, figures in window.layers.items() if figures["param_norm"] > 0}


class Unstable(Rule):
    """Steps change a layer by more than half of its norm, or one by ten times as much as there was."""

    kind: ClassVar = "updates"
    what: ClassVar = "unstable_updates"
    remedy: ClassVar = SLOWER
    source: ClassVar = f"{ADVICE}: about 1e-3; calibrated: healthy trainings reach 0.27 in their first steps"

    def check(self, window: Window, facts: HealthFacts) -> Reading | None:
        ratios = update_ratios(window)
        if not ratios:
            return None
        updates = figures_of_matrices(window.record, "update_norm")
        # Those that were 0 at first, as LoRA's B, are no measure of their steps.
        measured = window.weights.keys() & window.first_weights.keys()
        of_matrices = sorted(update / window.weights[name] for name, update in updates.items() if name in measured)
        if of_matrices and (middle := of_matrices[len(of_matrices) // 2]) > OVERWRITING_UPDATE:
            words = f"step {window.step:,} changes half of the matrices by {middle:.2g} times their norm or more"
            reading = above(middle, {"critical": OVERWRITING_UPDATE}, window, words)
            return replace(reading, proves=True)
        most = max(ratios, key=lambda name: ratios[name])
        high = [name for name, ratio in ratios.items() if ratio > UNSTABLE_UPDATE]
        words = f"step {window.step:,} changes {most} by {ratios[most]:.2g} times its norm"
        words += f"; above {UNSTABLE_UPDATE:g}: {names_in_words(high)}" if high else ""
        limits = {"warning": UNSTABLE_UPDATE, "critical": OVERWRITING_UPDATE}
        reading = above(ratios[most], limits, window, words, names_in_words(high))
        return replace(reading, proves=ratios[most] > PROVEN_UPDATE)


class Overwritten(Rule):
    """Weights have grown to a multiple so soon that little is left of what was drawn: more than by a sixth of their
    first norm for each step at the full rate, and more than fourfold."""

    kind: ClassVar = "updates"
    what: ClassVar = "overwritten_weights"
    remedy: ClassVar = SLOWER
    source: ClassVar = f"{ADVICE}; calibrated: healthy weights grow to 1.1 to 3.7 times as much in 150 steps"

    def check(self, window: Window, facts: HealthFacts) -> Reading | None:
        growth = window.growth
        if growth is None or facts.is_pretrained or facts.starts_small or not facts.peak_rate:
            return None
        limit = max(FASTEST_GROWTH, 1 + window.rate_steps / facts.peak_rate / 6)
        words = f"half of the matrices have {growth:.2g} times the norm at step {window.step:,} that they had at step "
        words += f"{window.first_measured:,}, or more"
        return above(growth, {"critical": limit}, window, words, figures={"growth": growth}, base=1.0)


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
        words = f"step {window.step:,} changes half of the layers by {middle:.2g} times their norm or less"
        return above(STALLED_UPDATE / middle if middle else 2.0, {"critical": 1.0}, window, words)


class StrongDecay(Rule):
    """Weight decay takes so much of the weights at each step that they follow the last gradients alone."""

    kind: ClassVar = "updates"
    what: ClassVar = "strong_decay"
    remedy: ClassVar = (
        "lower train.weight_decay, or train.learning_rate: a step takes their product of the weights; with SGD that "
        "over 1 - train.momentum"
    )
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
        words = f"step {window.step:,} takes {middle:.2%} of its weights or more from half of the matrices that decay"
        return above(middle, {"warning": DECAY, "critical": MOST_DECAY}, window, words, figures={"share": middle})


def of_weights(tag: str) -> str:
    """The tag of a matrix's weight norm, from one of its other tags."""
    return tag.rpartition("/")[0] + "/weight_norm"


RULES = (Unstable(), Overwritten(), Stalled(), StrongDecay())
