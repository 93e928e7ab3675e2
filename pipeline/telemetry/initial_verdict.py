"""What the scales of a model before training say about its initialization, in words.

* Activations: the root mean square of a block's output over that of the first. A residual stream grows with the
  square root of its depth at most; a factor of 100 compounds from layer to layer (Glorot & Bengio 2010).
* Gradients: a block's norm over that of the last, judged as during training.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pipeline.telemetry.training_verdict import EXPLODING_RATIO, VANISHING_RATIO, layers_judged, worst_verdict

GROWTH = 100.0

WHY = {
    "exploding": f"the output is more than {GROWTH:g} times the first block's, or the gradient more than "
    f"{EXPLODING_RATIO:g} times the last block's, or one is not finite",
    "vanishing": f"the output is less than 1/{GROWTH:g} of the first block's, or the gradient zero or less than "
    f"{VANISHING_RATIO:g} of the last block's",
}


def judge_start(measured: Mapping[str, Any]) -> dict[str, Any]:
    """A verdict for each block and for the model, from `pipeline.modeling.initial_scales.measure_scales`.

    Returns `{"verdict", "why", "loss", "uniform_loss", "layers": {name: {"verdict", "activation_rms", "grad_norm"}}}`.
    Numbers that are not finite become None, since JSON has none.
    """
    layers: Mapping[str, Mapping[str, float]] = measured["layers"]
    rest = {"loss": _finite(measured["loss"]), "uniform_loss": measured["uniform_loss"]}
    if not layers:
        return {"verdict": "unknown", "why": "the model has no numbered blocks", **rest, "layers": {}}
    first, last = next(iter(layers.values())), list(layers.values())[-1]
    judged: dict[str, dict[str, Any]] = {
        name: {
            "verdict": _judge_block(layer, first["activation_rms"], last["grad_norm"]),
            **{quantity: _finite(value) for quantity, value in layer.items()},
        }
        for name, layer in layers.items()
    }
    worst = worst_verdict(judged)
    return {"verdict": worst, "why": _explain(worst, judged), **rest, "layers": judged}


def _judge_block(layer: Mapping[str, float], first_rms: float, last_norm: float) -> str:
    rms, norm = layer["activation_rms"], layer["grad_norm"]
    if not (math.isfinite(rms) and math.isfinite(norm)):
        return "exploding"
    if rms == 0 or norm == 0 or rms < first_rms / GROWTH or norm < VANISHING_RATIO * last_norm:
        return "vanishing"
    if rms > GROWTH * first_rms or norm > EXPLODING_RATIO * last_norm:
        return "exploding"
    return "healthy"


def _explain(verdict: str, layers: Mapping[str, Mapping[str, Any]]) -> str:
    if verdict != "healthy":
        return f"{layers_judged(verdict, layers)}: {WHY[verdict]}"
    outputs, gradients = (
        max(layer[quantity] for layer in layers.values()) / min(layer[quantity] for layer in layers.values())
        for quantity in ("activation_rms", "grad_norm")
    )
    return (
        f"outputs of the blocks are within a factor of {outputs:.1f} of each other, their gradients within "
        f"{gradients:.1f}"
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
