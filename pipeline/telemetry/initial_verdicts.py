"""What the scales of a model before training say about its initialization.

* Loss: a fresh model knows nothing, so that its loss is that of a uniform guess.
* Activations: the root mean square of a block's output over that of the first. A residual stream grows with the
  square root of its depth at most; a factor of 100 compounds from layer to layer.
* Gradients: a block's norm over that of the last, judged as during training.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pipeline.telemetry.layer_series import names_in_words
from pipeline.telemetry.rules.gradients_rules import DEPTH, EXPLODING_RATIO, VANISHING_RATIO
from pipeline.telemetry.verdicts import Evidence, Verdict, by_severity

GROWTH = 100.0
WEIGHTS = "see whether model.initialization draws weights that are too large"
SCALES = "model.initialization, or fewer layers (model.config)"
LOSS_SOURCE = 'Karpathy, "A Recipe for Training Neural Networks": verify the loss at initialization'


def finite_scales(measured: Mapping[str, Any]) -> dict[str, Any]:
    """What `pipeline.modeling.initial_scales.measure_scales` found, with None for numbers that are not finite: JSON has
    none."""
    layers = {name: {key: _finite(value) for key, value in layer.items()} for name, layer in measured["layers"].items()}
    return {"loss": _finite(measured["loss"]), "uniform_loss": measured["uniform_loss"], "layers": layers}


def judge_start(measured: Mapping[str, Any], *, is_pretrained: bool = False) -> list[Verdict]:
    """Verdicts on what `measure_scales` found, worst first. The loss of a pretrained model on random ids says
    nothing."""
    loss = [] if is_pretrained or measured["uniform_loss"] is None else [_judge_loss(measured)]
    return by_severity([*loss, *_judge_layers(measured["layers"])])


def unmeasured(reason: str) -> list[Verdict]:
    """The verdict on a model that was not measured."""
    return [Verdict("gradients", "start", "unknown", Evidence(None, reason))]


def _judge_loss(measured: Mapping[str, Any]) -> Verdict:
    loss, guess = measured["loss"], measured["uniform_loss"]
    if not math.isfinite(loss):
        words = "the loss before training is not finite"
        return Verdict("loss", "loss_at_the_start", "critical", Evidence(None, words), WEIGHTS, LOSS_SOURCE)
    severity = "critical" if loss > 2 * guess else "warning" if loss > 1.1 * guess + 0.5 else "healthy"
    words = f"the loss before training is {loss:.4g} on random ids; guessing evenly costs {guess:.4g}"
    evidence = Evidence(None, words, figures={"loss": loss, "guessing": guess})
    return Verdict("loss", "loss_at_the_start", severity, evidence, WEIGHTS, LOSS_SOURCE)


def _judge_layers(layers: Mapping[str, Mapping[str, float]]) -> list[Verdict]:
    if not layers:
        return unmeasured("the model has no numbered blocks")
    first, last = next(iter(layers)), list(layers)[-1]
    outputs = {name: layer["activation_rms"] for name, layer in layers.items()}
    norms = {name: layer["grad_norm"] for name, layer in layers.items()}
    return [
        _judge("activations", "output", outputs, first, (1 / GROWTH, GROWTH)),
        _judge("gradients", "gradient", norms, last, (VANISHING_RATIO, EXPLODING_RATIO)),
    ]


def _judge(kind: str, noun: str, values: Mapping[str, float], yardstick: str, limits: tuple[float, float]) -> Verdict:
    """The values of blocks, beside that of one of them."""

    def verdict(what: str, severity: str, names: list[str], reason: str) -> Verdict:
        where = names_in_words(names)
        words = f"before training, {where}: {reason}" if names else f"before training, {reason}"
        return Verdict(kind, what, severity, Evidence(None, words, where), SCALES, DEPTH)

    least, most = limits
    broken = [name for name, value in values.items() if not math.isfinite(value)]
    if broken:
        return verdict(f"exploding_{kind}_at_the_start", "critical", broken, f"the {noun} is not finite")
    own = values[yardstick]
    zero = [name for name, value in values.items() if value == 0]
    if zero:
        return verdict(f"vanishing_{kind}_at_the_start", "critical", zero, f"the {noun} is zero")
    low = [name for name, value in values.items() if value < least * own]
    high = [name for name, value in values.items() if value > most * own]
    if high:
        factor = max(values[name] for name in high) / own
        reason = f"the {noun} is up to {factor:.3g} times that of {yardstick} (above {most:g})"
        return verdict(f"exploding_{kind}_at_the_start", "critical", high, reason)
    if low:
        part = min(values[name] for name in low) / own
        reason = f"the {noun} is down to {part:.2g} of that of {yardstick} (below {least:g})"
        return verdict(f"vanishing_{kind}_at_the_start", "critical", low, reason)
    spread = max(values.values()) / min(values.values())
    return verdict(
        f"{kind}_at_the_start", "healthy", [], f"the {noun}s of the blocks are within a factor of {spread:.1f}"
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
