"""Rules of the training loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from statistics import median
from typing import ClassVar

from pipeline.telemetry.facts import HealthFacts
from pipeline.telemetry.rules.base_rule import (
    FALLING,
    SLOWER,
    Reading,
    Rule,
    above,
    has_fallen,
    has_not_moved,
    is_full,
    is_late,
)
from pipeline.telemetry.verdicts import Evidence
from pipeline.telemetry.window import Window

NO_BETTER = 0.99
GROWN = 2.0
ABOVE_GUESSING = 0.1
SETTLED = 15
BOTH_RATES = "try a train.learning_rate three times as large, and a third of it"
TOO_LARGE = f"{SLOWER}; see whether model.initialization draws weights that are too large"
SLOW = "raise train.max_steps, or try a train.learning_rate three times as large"
UNITS = "write the labels of ingest.sources in units in which their mean and their standard deviation are near 1"


USUAL = {"train.adam_epsilon": 1e-8, "router_aux_loss_coef": 0.01}
"""Of settings, by the end of their keys; 0.1 of others, such as dropout."""


def usual_settings(facts: HealthFacts, of: str = "") -> str:
    """The advice to give settings far outside of what is usual a value that is; "" where there are none. `of`: only
    those with this in their key."""
    advice = []
    for key, value in facts.unusual.items():
        if of in key:
            usual = next((one for end, one in USUAL.items() if key.endswith(end)), 0.1)
            advice.append(f"lower {key}, which is {value:g}: {usual:g} is usual")
    return "; ".join(advice)


def remedy_of_no_learning(window: Window, facts: HealthFacts) -> str:
    """In the place of a larger learning rate: what is known to be far off, or a smaller one where the loss was above a
    uniform guess or the weights have grown to a multiple."""
    if facts.has_odd_units:
        return UNITS
    if advice := usual_settings(facts):
        return advice
    if window.growth is not None and window.growth > GROWN and not (facts.is_pretrained or facts.starts_small):
        words = f"{SLOWER}: half of the matrices have grown {window.growth:.2g} times or more since step "
        return f"{words}{window.first_measured:,}"
    guess = facts.guess_loss
    margin = ABOVE_GUESSING if facts.predicts == "tokens" else guess or 0.0
    was_above = guess is not None and any(loss > guess + margin for _, loss in window.history)
    return TOO_LARGE if was_above else ""


def settled_loss(window: Window, facts: HealthFacts) -> float:
    """The median of the last losses; where a step has few targets, one a document, the least such median of the last
    SETTLED records: medians of so few labels are far apart, and neighbours share four of five losses."""
    if facts.predicts == "tokens":
        return window.loss
    return min([window.loss, *(loss for _, loss in window.history[-SETTLED:])])


def no_learning(
    window: Window, facts: HealthFacts, loss: float, words: str, figures: Mapping[str, float], proves: bool
) -> Reading:
    """The reading of a loss that is to be below that of frequencies. One that still falls, where nothing is known to be
    wrong, is that of a slow or short training: a note."""
    frequencies, remedy = facts.frequency_loss or 0.0, remedy_of_no_learning(window, facts)
    is_slow = not remedy and not proves and has_fallen(window, FALLING)
    words += "; it still falls" if is_slow else ""
    limits = {"note" if is_slow else "critical": NO_BETTER * frequencies}
    reading = above(loss, limits, window, words, figures=figures, base=frequencies)
    return replace(reading, proves=proves, remedy=SLOW if is_slow else remedy)


class AboveGuessing(Rule):
    """A model that has trained for half of its warm-up knows less than nothing: its loss is above that of a uniform
    guess, twice that before, or of numbers twice that of always saying 0. Errors of few numbers are far apart, nats are
    not. Of losses that began above it and fall from record to record the last counts, not their median."""

    kind: ClassVar = "loss"
    what: ClassVar = "loss_above_guessing"
    remedy: ClassVar = TOO_LARGE
    source: ClassVar = "a uniform guess among V targets costs log V nats, always saying 0 the mean square of the labels"

    def check(self, window: Window, facts: HealthFacts) -> Reading | None:
        guess = facts.guess_loss
        if guess is None or not window.has_loss:
            return None
        loss = window.loss if window.loss > 2 * guess else settled_loss(window, facts)
        if window.step <= facts.warmup_steps / 2 and (facts.is_pretrained or loss <= 2 * guess):
            return None
        falls = len(window.losses) > 2 and all(after < before for before, after in pairwise(window.losses))
        is_last = falls and window.losses[-1] < loss <= 2 * guess
        loss, which = (window.losses[-1], "") if is_last else (loss, "median ")
        words = f"the {which}training loss is {loss:.4g} at step {window.step:,}; {facts.guess} costs {guess:.4g}"
        limits = {"critical": 2 * guess if facts.predicts == "numbers" else guess + ABOVE_GUESSING}
        reading = above(loss, limits, window, words, figures={"loss": loss, "guessing": guess}, base=guess)
        return replace(reading, remedy=UNITS if facts.has_odd_units else "")


class NoBetterThanFrequencies(Rule):
    """The model has learned no more than how often each target occurs."""

    kind: ClassVar = "loss"
    what: ClassVar = "no_better_than_frequencies"
    remedy: ClassVar = f"see whether the data has any order to learn; {BOTH_RATES}, or raise train.max_steps"
    source: ClassVar = "the entropy of single symbols (Shannon 1951); the margin of 1 % is calibrated"

    def check(self, window: Window, facts: HealthFacts) -> Reading | None:
        frequencies = facts.frequency_loss
        if frequencies is None or not window.has_loss:
            return None
        loss = window.loss
        has_not = has_not_moved(window, facts, loss)
        if not has_not and not is_late(window, facts):
            return None
        words = f"the median training loss is {loss:.4g} at step {window.step:,}"
        words += f"; {facts.frequencies} costs {frequencies:.4g}"
        figures = {"loss": loss, "frequencies": frequencies}
        return no_learning(window, facts, loss, words, figures, has_not)


class Diverged(Rule):
    """The loss has gone back by half of what it had come down, and further than its own noise."""

    kind: ClassVar = "loss"
    what: ClassVar = "loss_diverged"
    remedy: ClassVar = f"{SLOWER}, set or lower train.max_grad_norm, or set train.on_loss_spike: rollback"
    source: ClassVar = "Chowdhery et al. 2022 (PaLM) for the remedies; thresholds are calibrated"

    def check(self, window: Window, facts: HealthFacts) -> Reading | None:
        if not window.has_loss or window.lowest is None or window.first_loss is None:
            return None
        step, lowest, deviation = window.lowest
        limit = max((window.first_loss - lowest) / 2, 6 * deviation, 0.1 * abs(lowest))
        loss = settled_loss(window, facts)
        words = f"the median training loss is {loss:.4g} at step {window.step:,}; it was {lowest:.4g} at step {step:,}"
        return above(loss - lowest, {"critical": limit}, window, words, figures={"loss": loss, "lowest": lowest})


class Plateau(Rule):
    """A fifth of the training brought nothing, while the loss is hardly below that of frequencies. A flat loss far
    below it is one that has converged; one at a learning rate on its way to zero says nothing; one that rises is no
    plateau, and a larger rate no remedy."""

    kind: ClassVar = "loss"
    what: ClassVar = "loss_plateau"
    remedy: ClassVar = f"{BOTH_RATES}, or give the model more layers or width (model.config)"
    source: ClassVar = (
        "calibrated: a fall of less than 0.5 % in a fifth of the training, above 90 % of frequencies' loss"
    )

    def check(self, window: Window, facts: HealthFacts) -> Reading | None:
        if facts.frequency_loss is None or not window.has_loss or window.step < 0.3 * facts.max_steps:
            return None
        if window.record.get("train/learning_rate", facts.peak_rate) < facts.peak_rate / 2:
            return None
        recent = [loss for step, loss in window.history if step >= window.step - facts.max_steps / 5]
        if len(recent) < 8 or not is_full(window):
            return None
        quarter = len(recent) // 4
        before, now = median(recent[:quarter]), median(recent[-quarter:])
        words = (
            f"the median training loss went from {before:.4g} to {now:.4g} in the fifth of the training before step "
        )
        words += f"{window.step:,}; {facts.frequencies} costs {facts.frequency_loss:.4g}"
        is_flat = -0.02 * before < before - now < 0.005 * before
        limit = 0.9 * facts.frequency_loss
        figures = {"before": before, "loss": now}
        base = facts.frequency_loss
        reading = above(now if is_flat else 0.0, {"warning": limit}, window, words, figures=figures, base=base)
        return replace(reading, remedy=remedy_of_no_learning(window, facts))


class Spikes(Rule):
    """Values far above those before. Of the last records they are worse than those that are over, if there are as many
    as `fewest`."""

    fewest: ClassVar[int] = 1
    tag: ClassVar[str]
    noun: ClassVar[str]
    remedy: ClassVar = (
        "set train.on_loss_spike: rollback or skip, set or lower train.max_grad_norm, lower train.learning_rate"
    )
    source: ClassVar = "train.loss_spike_threshold"
    at_once: ClassVar = True

    def check(self, window: Window, facts: HealthFacts) -> Reading | None:
        if self.tag not in window.record:
            return None
        counts = window.spikes[self.tag]
        count, new = counts[-1], counts[-1] - counts[0]
        severity = "warning" if new >= self.fewest else "note" if count else "healthy"
        words = f"{count:,.0f} spike{'' if count == 1 else 's'} of {self.noun} up to step {window.step:,}"
        words += f", {new:,.0f} of them in the last records" if new > 0 else ""
        return Reading(severity, Evidence(window.step, words, figures={"spikes": count}))


class LossSpikes(Spikes):
    kind: ClassVar = "loss"
    what: ClassVar = "loss_spikes"
    tag: ClassVar = "train/loss_spikes"
    noun: ClassVar = "the loss"


RULES = (AboveGuessing(), NoBetterThanFrequencies(), Diverged(), Plateau(), LossSpikes())
