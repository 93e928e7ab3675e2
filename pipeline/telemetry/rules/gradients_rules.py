"""Rules of the gradients.

Blocks share one shape, so their norms compare. A factor that each block applies to the gradient compounds with depth
(Bengio, Simard & Frasconi 1994; Glorot & Bengio 2010): residual networks stay within a factor of about ten.
"""

from __future__ import annotations

from dataclasses import replace
from statistics import median
from typing import ClassVar

from pipeline.telemetry.facts import HealthFacts
from pipeline.telemetry.layer_series import blocks_in, names_in_words
from pipeline.telemetry.probe_figures import figure_by_block
from pipeline.telemetry.rules.base_rule import Reading, Rule, above, remedy_by_start
from pipeline.telemetry.rules.loss_rules import UNITS, Spikes
from pipeline.telemetry.verdicts import Evidence
from pipeline.telemetry.window import WINDOW_RECORDS, Window

VANISHING_RATIO = 1e-3
EXPLODING_RATIO = 1e3
EXPLODING_GROWTH = 100.0
NOISY = 30.0
DEPTH = "Bengio, Simard & Frasconi 1994; Glorot & Bengio 2010, section 4.2"


def gradient_ratios(window: Window) -> dict[str, float]:
    """Each block's gradient norm over that of the last block; empty where that is zero."""
    blocks = blocks_in(window.layers)
    last = list(blocks.values())[-1]["grad_norm"] if blocks else 0.0
    return {name: figures["grad_norm"] / last for name, figures in blocks.items()} if last > 0 else {}


class Vanishing(Rule):
    """A block's gradient is less than a thousandth of the last block's, or a layer's is zero."""

    kind: ClassVar = "gradients"
    what: ClassVar = "vanishing_gradients"
    remedy: ClassVar = "fewer layers or residual connections (model.config), larger weights (model.initialization)"
    source: ClassVar = DEPTH

    def check(self, window: Window, facts: HealthFacts) -> Reading | None:
        if not window.layers:
            return None
        zero = [name for name, figures in window.layers.items() if figures["grad_norm"] == 0]
        if zero:
            where = names_in_words(zero)
            return Reading(
                "critical", Evidence(window.step, f"the gradient of {where} is zero at step {window.step:,}", where)
            )
        ratios = gradient_ratios(window)
        if not ratios:
            return None
        low = [name for name, ratio in ratios.items() if ratio < VANISHING_RATIO]
        least = min(ratios, key=lambda name: ratios[name])
        words = f"the gradient of {least} is {ratios[least]:.2g} of the last block's at step {window.step:,}"
        words += f"; below {VANISHING_RATIO:g}: {names_in_words(low)}" if low else ""
        # Reciprocal, so that more is worse.
        reading = above(1 / ratios[least], {"critical": 1 / VANISHING_RATIO}, window, words, names_in_words(low))
        return reading if ratios[least] < 1 else Reading("healthy", reading.evidence)


class Exploding(Rule):
    """A block's gradient is more than a thousand times the last block's."""

    kind: ClassVar = "gradients"
    what: ClassVar = "exploding_gradients"
    remedy: ClassVar = "smaller weights (model.initialization), fewer layers (model.config), set train.max_grad_norm"
    source: ClassVar = DEPTH

    def check(self, window: Window, facts: HealthFacts) -> Reading | None:
        ratios = gradient_ratios(window)
        if not ratios:
            return None
        high = [name for name, ratio in ratios.items() if ratio > EXPLODING_RATIO]
        most = max(ratios, key=lambda name: ratios[name])
        words = f"the gradient of {most} is {ratios[most]:.3g} times the last block's at step {window.step:,}"
        words += f"; above {EXPLODING_RATIO:g}: {names_in_words(high)}" if high else ""
        return above(ratios[most], {"critical": EXPLODING_RATIO}, window, words, names_in_words(high))


class Growing(Rule):
    """The gradient's norm has grown a hundredfold since the warm-up."""

    kind: ClassVar = "gradients"
    what: ClassVar = "growing_gradients"
    remedy: ClassVar = "lower train.learning_rate, set or lower train.max_grad_norm"
    source: ClassVar = "Pascanu, Mikolov & Bengio 2013, for the remedy; the factor is calibrated"

    def check(self, window: Window, facts: HealthFacts) -> Reading | None:
        if "train/grad_norm" not in window.record or len(window.early_norms) < WINDOW_RECORDS:
            return None
        before, now = median(window.early_norms), median(window.norms)
        if before == 0:
            return None
        words = f"the gradient's norm is {now:.3g} at step {window.step:,}; after the warm-up it was {before:.3g}"
        return above(
            now / before, {"critical": EXPLODING_GROWTH}, window, words, figures={"now": now, "before": before}
        )


class AlwaysClipped(Rule):
    """Nearly every step is clipped, to less than a tenth: the limit sets the size of the steps. To less than a
    thousandth it is a mistake: what is left is too small for SGD to move by, and beside Adam's epsilon."""

    kind: ClassVar = "gradients"
    what: ClassVar = "always_clipped"
    remedy: ClassVar = "raise train.max_grad_norm, or lower train.learning_rate"
    source: ClassVar = "Pascanu, Mikolov & Bengio 2013: the limit is to be above the usual norm"

    def check(self, window: Window, facts: HealthFacts) -> Reading | None:
        share, norm = window.record.get("train/clipped_share"), window.record.get("train/grad_norm")
        if share is None or norm is None or not facts.max_grad_norm or window.step <= facts.warmup_steps:
            return None
        norm = median(window.many_norms)  # single ones go up and down by a factor of ten
        words = f"the gradient's median norm is {norm:.3g} up to step {window.step:,}, clipped to "
        words += f"{facts.max_grad_norm:g} in {share:.0%} of the steps"
        limits = {"note": 10 * facts.max_grad_norm, "warning": 1000 * facts.max_grad_norm}
        reading = above(norm if share > 0.95 else 0.0, limits, window, words)
        return replace(reading, remedy=UNITS) if facts.has_odd_units else reading


class NoisyGradient(Rule):
    """A step's gradient is mostly noise. No fault, but the batch may grow with next to no loss of progress a target."""

    kind: ClassVar = "gradients"
    what: ClassVar = "noisy_gradient"
    remedy: ClassVar = "a larger train.global_batch_size trains in fewer steps"
    source: ClassVar = "McCandlish et al. 2018, on large batches; calibrated: small trainings reach 4 times"

    def check(self, window: Window, facts: HealthFacts) -> Reading | None:
        scale = window.record.get("train/grad_noise_scale")
        if scale is None or facts.batch_targets <= 0:
            return None
        share = scale / facts.batch_targets
        words = f"the gradient's noise scale is {scale:,.0f} targets at step {window.step:,}, {share:.3g} times a batch"
        return above(share, {"note": NOISY}, window, words, figures={"scale": scale, "batches": share})


class GradientSpikes(Spikes):
    """One large gradient, which clipping cuts, does no harm where the loss stays; healthy trainings have some."""

    kind: ClassVar = "gradients"
    what: ClassVar = "gradient_spikes"
    tag: ClassVar = "train/grad_norm_spikes"
    noun: ClassVar = "the gradient's norm"
    fewest: ClassVar = 3


class GradientFactor(Rule):
    """What each block does to the gradient on its way back compounds: to less than a thousandth, or more than a
    thousandfold, from the last block's output to the first's."""

    kind: ClassVar = "gradients"
    what: ClassVar = "gradient_factor"
    remedy: ClassVar = (
        "residual connections, norms or fewer layers (model.config), other weights (model.initialization)"
    )
    larger: ClassVar = "residual connections or fewer layers (model.config), larger weights (model.initialization)"
    smaller: ClassVar = "smaller weights (model.initialization), norms or fewer layers (model.config)"
    source: ClassVar = (
        "Pascanu, Mikolov & Bengio 2013; Glorot & Bengio 2010, section 4.2; calibrated: 0.55 to 0.77 in all"
    )

    def check(self, window: Window, facts: HealthFacts) -> Reading | None:
        norms = figure_by_block(window.record, "out_grad_norm")
        if len(norms) < 2:
            return None
        names = list(norms)
        first, last, steps = norms[names[0]], norms[names[-1]], len(norms) - 1
        where = f"{names[0]} to {names[-1]}"
        if first == 0 or last == 0:
            zero = names_in_words([name for name, norm in norms.items() if norm == 0])
            words = f"the gradient with respect to what {zero} gives is zero at step {window.step:,}"
            return Reading("critical", Evidence(window.step, words, zero, {"first": first, "last": last}))
        whole = first / last
        each = whole ** (1 / steps)
        words = f"on its way back the gradient is multiplied by {each:.3g} a block at step {window.step:,}: "
        words += f"{each:.3g}^{steps} = {whole:.2g} from {names[-1]} to {names[0]}"
        share = max(whole / EXPLODING_RATIO, VANISHING_RATIO / whole)
        figures = {"whole": whole, "each": each}
        reading = above(share, {"critical": 1.0}, window, words, where if share > 1 else "", figures)
        then = figure_by_block(window.start, "out_grad_norm")
        before = then.get(names[0], 1.0) / then.get(names[-1], 1.0) if then.get(names[-1]) else 1.0
        is_from_start = not VANISHING_RATIO <= before <= EXPLODING_RATIO
        return replace(
            reading, remedy=remedy_by_start(window, is_from_start, self.larger if whole < 1 else self.smaller)
        )


RULES = (Vanishing(), Exploding(), GradientFactor(), Growing(), AlwaysClipped(), NoisyGradient(), GradientSpikes())
