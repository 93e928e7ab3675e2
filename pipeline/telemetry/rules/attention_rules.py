"""Rules of the attention: how sharply it looks.

An entropy is over that of looking evenly at all keys: 1 in fresh models, 0 where each query sees one key alone.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from pipeline.telemetry.facts import HealthFacts
from pipeline.telemetry.layer_series import names_in_words
from pipeline.telemetry.probe_figures import ATTENTION, figure_by_module
from pipeline.telemetry.rules.base_rule import (
    FALLING,
    Reading,
    Rule,
    above,
    has_fallen,
    has_not_moved,
    is_late,
    remedy_by_start,
)
from pipeline.telemetry.rules.loss_rules import NO_BETTER, remedy_of_no_learning
from pipeline.telemetry.window import Window

SATURATED, LOGIT, UNIFORM = 0.06, 100.0, 0.995
"""Sinks, which look at the first token alone, have low entropies as well, but logits of a few dozens."""

SOFTEN = "lower train.learning_rate, or smaller weights (model.initialization); query and key norms (such as qwen3's)"
AT_START = "smaller weights (model.initialization), or query and key norms (such as qwen3's, model.architecture)"


class SaturatedAttention(Rule):
    """In a layer each query looks at one key alone, by giant logits: little gradient passes through such a softmax."""

    kind: ClassVar = "attention"
    what: ClassVar = "saturated_attention"
    remedy: ClassVar = SOFTEN
    source: ClassVar = 'Zhai et al. 2023, "... Preventing Attention Entropy Collapse"; calibrated: 0.12 is healthy'

    def check(self, window: Window, facts: HealthFacts) -> Reading | None:
        entropies = figure_by_module(window.record, ATTENTION, "entropy_mean")
        if not entropies:
            return None
        logits = figure_by_module(window.record, ATTENTION, "largest_logit")
        low = [name for name, entropy in entropies.items() if entropy < SATURATED and logits.get(name, 0.0) > LOGIT]
        least = min(low or entropies, key=lambda name: entropies[name])
        logit = logits.get(least, 0.0)
        words = (
            f"the entropy of the attention of {least} is {entropies[least]:.2g} at step {window.step:,}, where 1 is "
        )
        words += f"looking evenly at all tokens and 0 at one alone; its largest logit is {logit:,.4g}"
        words += f"; below {SATURATED:g}: {names_in_words(low)}" if low else ""
        share = SATURATED / max(entropies[least], 1e-9)
        share = share if low else min(0.9, share)
        figures = {"entropy": entropies[least], "logit": logit}
        reading = above(share, {"warning": 1.0, "critical": 2.0}, window, words, names_in_words(low), figures)
        before = figure_by_module(window.start, ATTENTION, "entropy_mean").get(least, 1.0)
        return replace(reading, remedy=remedy_by_start(window, before < SATURATED, AT_START))


class LargeLogits(Rule):
    """Attention logits have grown out of all proportion. Those that a cap holds back are no matter of it."""

    kind: ClassVar = "attention"
    what: ClassVar = "large_attention_logits"
    remedy: ClassVar = SOFTEN
    source: ClassVar = "Dehghani et al. 2023 (ViT-22B); Wortsman et al. 2024: they pass 1e4 before trainings diverge"

    def check(self, window: Window, facts: HealthFacts) -> Reading | None:
        logits = figure_by_module(window.record, ATTENTION, "largest_logit")
        if not logits or facts.attention_cap:
            return None
        limits = {"warning": 1e3, "critical": 1e4}
        most = max(logits, key=lambda name: logits[name])
        high = [name for name, logit in logits.items() if logit > limits["warning"]]
        words = f"the largest attention logit of {most} is {logits[most]:,.4g} at step {window.step:,}"
        words += f"; above {limits['warning']:g}: {names_in_words(high)}" if high else ""
        reading = above(logits[most], limits, window, words, names_in_words(high), {"logit": logits[most]})
        before = figure_by_module(window.start, ATTENTION, "largest_logit").get(most, 0.0)
        return replace(reading, remedy=remedy_by_start(window, before > limits["warning"], AT_START))


class UniformAttention(Rule):
    """A model that has learned nothing so far still looks evenly at all tokens, in every head."""

    kind: ClassVar = "attention"
    what: ClassVar = "uniform_attention"
    remedy: ClassVar = "raise train.learning_rate, or larger weights (model.initialization)"
    source: ClassVar = "Noci et al. 2022, on queries and keys that get no gradient; the threshold is calibrated"

    def check(self, window: Window, facts: HealthFacts) -> Reading | None:
        entropies = figure_by_module(window.record, ATTENTION, "entropy_lowest_head")
        loss = facts.frequency_loss
        if not entropies or loss is None or not window.losses:
            return None
        if not is_late(window, facts) and not has_not_moved(window, facts, window.loss):
            return None
        least = min(entropies, key=lambda name: entropies[name])
        has_learned = window.loss <= NO_BETTER * loss or has_fallen(window, FALLING)
        words = (
            f"the lowest entropy of any attention head is {entropies[least]:.4f} at step {window.step:,}, where 1 is "
        )
        words += "looking evenly at all tokens"
        share = entropies[least] / UNIFORM if not has_learned else 0.0
        reading = above(share, {"warning": 1.0}, window, words, figures={"entropy": entropies[least]})
        return replace(reading, remedy=remedy_of_no_learning(window, facts))


RULES = (SaturatedAttention(), LargeLogits(), UniformAttention())
