"""Rules of the activations: hidden units that no longer tell anything, and a residual stream that grows or fades.

A residual stream grows with the square root of its depth at most (De & Smith 2020; Xiong et al. 2020).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from pipeline.modeling.layer_names import is_block, layer_of_matrix
from pipeline.telemetry.facts import HealthFacts
from pipeline.telemetry.layer_series import names_in_words
from pipeline.telemetry.probe_figures import ATTENTION, FEWEST_TOKENS, NOT_FINITE, PROBE, figure_by_module
from pipeline.telemetry.rules.base_rule import SLOWER, Reading, Rule, above, remedy_by_start
from pipeline.telemetry.verdicts import Evidence
from pipeline.telemetry.window import Window

GROWTH, GROWTH_OF_A_BLOCK, FADED, IDLE = 100.0, 10.0, 0.01, 1e-3
LARGE_STREAM = 3.0
"""Root mean square; embeddings of healthy models have 0.02 to 1."""


class NotFinite(Rule):
    """On the way through the model something is infinite or no number; what comes first is named, of gradients what is
    nearest to the loss. An output outside of the blocks counts only where the loss is not finite either: models may
    mask outputs by infinities."""

    kind: ClassVar = "activations"
    what: ClassVar = "not_finite"
    remedy: ClassVar = (
        "lower train.learning_rate or go on from an earlier checkpoint; train.mixed_precision: no shows whether it is "
        "the precision; smaller weights (model.initialization) where it is so before training"
    )
    source: ClassVar = "IEEE 754: what is computed from an infinity or from NaN is mostly NaN"
    at_once: ClassVar = True

    def check(self, window: Window, facts: HealthFacts) -> Reading | None:
        record = window.record
        if not any(tag.startswith(PROBE) for tag in record):
            return None
        is_loss_lost = f"{PROBE}{NOT_FINITE['loss']}" in record
        outputs = figure_by_module(record, PROBE, NOT_FINITE["out_rms"])
        inside = [name for name in outputs if is_loss_lost or is_block(layer_of_matrix(name))]
        logits = list(figure_by_module(record, ATTENTION, NOT_FINITE["largest_logit"]))
        gradients = list(figure_by_module(record, PROBE, NOT_FINITE["out_grad_norm"]))
        # A block stands before its parts, which compute before it gives anything.
        first = next((name for name in inside[1:] if name.startswith(f"{inside[0]}.")), inside[0]) if inside else ""
        if logits and (not first or layer_of_matrix(first) == logits[0]):
            return self._reading(window, logits[0], "an attention logit of {} is")
        if first:
            return self._reading(window, first, "what {} gives is")
        if gradients:
            return self._reading(window, gradients[-1], "the gradient with respect to what {} gives is")
        if is_loss_lost:
            return self._reading(window, "", "the probe's loss is")
        words = f"outputs, attention logits and gradients are finite at step {window.step:,}"
        return Reading("healthy", Evidence(window.step, words))

    def _reading(self, window: Window, where: str, words: str) -> Reading:
        words = f"{words.format(where)} infinite or no number at step {window.step:,}"
        return Reading("critical", Evidence(window.step, words, where))


class _UnitsRule(Rule):
    """A large share of the hidden units of a layer."""

    kind: ClassVar = "activations"
    figure: ClassVar[str]
    noun: ClassVar[str]
    at_start: ClassVar[str]
    limits: ClassVar[dict[str, float]]

    def check(self, window: Window, facts: HealthFacts) -> Reading | None:
        shares = figure_by_module(window.record, PROBE, self.figure)
        if not shares or facts.probe_tokens < FEWEST_TOKENS:
            return None
        most = max(shares, key=lambda name: shares[name])
        smallest = next(iter(self.limits.values()))
        high = [name for name, share in shares.items() if share > smallest]
        words = f"{shares[most]:.1%} of the units of {most} {self.noun} at step {window.step:,}"
        words += f"; more than {smallest:.0%}: {names_in_words(high)}" if high else ""
        reading = above(shares[most], self.limits, window, words, names_in_words(high), {"share": shares[most]})
        before = figure_by_module(window.start, PROBE, self.figure).get(most, 0.0)
        return replace(reading, remedy=remedy_by_start(window, before > smallest, self.at_start))


class DeadUnits(_UnitsRule):
    what: ClassVar = "dead_units"
    remedy: ClassVar = "lower train.learning_rate or raise train.warmup_steps; another activation (model.config)"
    source: ClassVar = 'Lu et al. 2019, "Dying ReLU and Initialization"; calibrated: healthy trainings have none'
    figure: ClassVar = "dead_units"
    noun: ClassVar = "give nothing for any token"
    at_start: ClassVar = "other weights and biases (model.initialization), or another activation (model.config)"
    limits: ClassVar = {"warning": 0.2, "critical": 0.5}


class SaturatedUnits(_UnitsRule):
    what: ClassVar = "saturated_units"
    remedy: ClassVar = "smaller weights (model.initialization), lower train.learning_rate"
    source: ClassVar = "Glorot & Bengio 2010, on saturated units; the share is calibrated"
    figure: ClassVar = "saturated_units"
    noun: ClassVar = "stand at a bound for nearly all tokens"
    at_start: ClassVar = "smaller weights and biases (model.initialization), or norms before them (model.config)"
    limits: ClassVar = {"warning": 0.2}


class ResidualGrowth(Rule):
    """From the first block to the last a token's norm grows a hundredfold, or tenfold in one block. Pretrained models
    are not judged."""

    kind: ClassVar = "activations"
    what: ClassVar = "residual_growth"
    remedy: ClassVar = "smaller weights (model.initialization), fewer layers (model.config), lower train.learning_rate"
    at_start: ClassVar = "smaller weights (model.initialization), or fewer layers (model.config)"
    source: ClassVar = "De & Smith 2020; Xiong et al. 2020: with depth a stream grows like its root; calibrated: 1.9"

    def check(self, window: Window, facts: HealthFacts) -> Reading | None:
        _, *growth = figure_by_module(window.record, PROBE, "growth").items() or [("", 0.0)]
        if not growth or facts.is_pretrained or min(value for _, value in growth) <= 0:
            return None
        name, most = max(growth, key=lambda one: one[1])
        whole = math.exp(sum(math.log(value) for _, value in growth))
        words = f"at step {window.step:,} {name} makes tokens {most:.3g} times as large as it gets them (limit "
        words += f"{GROWTH_OF_A_BLOCK:g}), all blocks behind the first {whole:.3g} times (limit {GROWTH:g})"
        share = _residual_share(growth)
        figures = {"most": most, "whole": whole}
        reading = above(share, {"warning": 1.0}, window, words, name if share > 1 else "", figures)
        _, *before = figure_by_module(window.start, PROBE, "growth").items() or [("", 0.0)]
        is_from_start = _residual_share(before) > 1
        return replace(reading, remedy=remedy_by_start(window, is_from_start, self.at_start))


def _residual_share(growth: Sequence[tuple[str, float]]) -> float:
    """How near the growth of blocks, or of all of them, is to its limit, which is 1."""
    factors = [factor for _, factor in growth]
    return max(max(factors, default=0.0) / GROWTH_OF_A_BLOCK, math.prod(factors) / GROWTH if factors else 0.0)


class FirstBlock(Rule):
    """The first block drowns the embeddings. Only a note: where branches end in norms, and embeddings are small, a
    factor of 70 is healthy."""

    kind: ClassVar = "activations"
    what: ClassVar = "first_block"
    remedy: ClassVar = "larger embeddings (model.initialization, embedding_std)"
    large_branch: ClassVar = "smaller weights (model.initialization, std)"
    source: ClassVar = "calibrated: OLMo 2's 0.02 under branches of 1 make 70"

    def check(self, window: Window, facts: HealthFacts) -> Reading | None:
        growth = figure_by_module(window.record, PROBE, "growth")
        if not growth or facts.is_pretrained:
            return None
        name, factor = next(iter(growth.items()))
        words = f"{name} makes tokens {factor:.3g} times as large as their embeddings at step {window.step:,}"
        reading = above(factor, {"note": GROWTH}, window, words, name if factor > GROWTH else "", {"factor": factor})
        size = figure_by_module(window.record, PROBE, "out_rms").get(name, 0.0)
        # Which of the two is farther from 1: what comes out, or the embeddings, which are size / factor.
        mended_by = self.large_branch if size * size > factor else self.remedy
        before = figure_by_module(window.start, PROBE, "growth").get(name, factor)
        return replace(reading, remedy=mended_by if before > GROWTH else SLOWER)


class Fading(Rule):
    """What a block gives is a hundredth of what the first block gets, or nothing."""

    kind: ClassVar = "activations"
    what: ClassVar = "fading_activations"
    remedy: ClassVar = "larger weights (model.initialization), residual connections or fewer layers (model.config)"
    source: ClassVar = "Glorot & Bengio 2010; the factor is calibrated: in healthy trainings no block shrinks tokens"

    def check(self, window: Window, facts: HealthFacts) -> Reading | None:
        growth = figure_by_module(window.record, PROBE, "growth")
        if not growth:
            return None
        whole, sizes = 1.0, {}
        for name, factor in growth.items():
            whole *= factor
            sizes[name] = whole
        least = min(sizes, key=lambda name: sizes[name])
        low = [name for name, size in sizes.items() if size < FADED]
        words = f"tokens come out of {least} at {sizes[least]:.2g} of their size before the first block, at step "
        words += f"{window.step:,}" + (f"; below {FADED:g}: {names_in_words(low)}" if low else "")
        if sizes[least] == 0:
            return Reading("critical", Evidence(window.step, words, names_in_words(low), {"size": 0.0}))
        return above(
            FADED / sizes[least], {"critical": 1.0}, window, words, names_in_words(low), {"size": sizes[least]}
        )


class IdleBlocks(Rule):
    """Before training attention and feed-forward networks add next to nothing to what passes by them, in every block.
    Branches that begin at zero are a choice, and no matter of it."""

    kind: ClassVar = "activations"
    what: ClassVar = "idle_blocks"
    remedy: ClassVar = "larger weights (model.initialization, std)"
    large_stream: ClassVar = "smaller embeddings (model.initialization, embedding_std)"
    source: ClassVar = "calibrated: fresh branches add 1 % or more"
    at_once: ClassVar = True

    def check(self, window: Window, facts: HealthFacts) -> Reading | None:
        growth = figure_by_module(window.record, PROBE, "growth")
        sizes = figure_by_module(window.record, PROBE, "out_rms")
        added = {
            name: max((sizes[part] for part in sizes if part.startswith(f"{name}.")), default=0.0) / sizes[name]
            for name in growth
            if sizes.get(name)
        }
        if (
            window.step > 0
            or not added
            or min(added.values()) == 0
            or any(abs(one - 1) > 1e-4 for one in growth.values())
        ):
            return None
        most = max(added, key=lambda name: added[name])
        words = f"before training the branches of {most} add {added[most]:.2g} of what passes by them, others less"
        figures = {"share": added[most], "stream": sizes[most]}
        reading = above(IDLE / added[most], {"warning": 1.0}, window, words, names_in_words(list(added)), figures)
        return replace(reading, remedy=self.large_stream if sizes[most] > LARGE_STREAM else self.remedy)


RULES = (NotFinite(), DeadUnits(), SaturatedUnits(), ResidualGrowth(), FirstBlock(), Fading(), IdleBlocks())
