"""What the norms of layers say about learning, in words.

Measured over a run's history, as medians, so that one odd step decides nothing:

* Gradient ratio: a block's gradient norm over that of the last block. Blocks share one shape, so their norms
  compare. A factor that each layer applies to the gradient compounds with depth (Bengio, Simard & Frasconi 1994;
  Glorot & Bengio 2010, section 4.2 and figure 7): residual networks stay within a factor of about ten; below 1e-3
  the early blocks hardly learn (vanishing), above 1e3 the gradient grows on its way back (exploding).
* Growth: the whole gradient norm in the last quarter of the history over that in the first; above 100 the run is
  exploding in time.
* Update ratio: norm of the update over norm of the weights. About 1e-3 is the usual advice (Karpathy, "Neural
  Networks: Zero to Hero", part 4); two orders above it weights are overwritten rather than refined (unstable), two
  orders below it they hardly move (stalled).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from pipeline.modeling.parameters import is_block
from pipeline.telemetry.layer_statistics import QUANTITIES

VANISHING_RATIO = 1e-3
EXPLODING_RATIO = 1e3
EXPLODING_GROWTH = 100.0
UNSTABLE_UPDATE = 1e-1
STALLED_UPDATE = 1e-5
SEVERITY = ("exploding", "vanishing", "unstable", "stalled", "healthy")

WHY = {
    "vanishing": f"gradients are zero, or less than {VANISHING_RATIO:g} of the last block's",
    "exploding": f"gradients are more than {EXPLODING_RATIO:g} times the last block's, or not finite",
    "unstable": f"a step changes the weights by more than {UNSTABLE_UPDATE:g} of their norm; lower the learning rate",
    "stalled": f"a step changes the weights by less than {STALLED_UPDATE:g} of their norm; raise the learning rate",
}


def judge(history: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Verdict on a run from the lines of its metrics.jsonl.

    Returns `{"verdict", "why", "layers": {name: {"verdict", "grad_norm", "param_norm", "update_ratio"}}}`, where a
    layer's numbers are medians over the history. The verdict is the worst of the layers' and of the whole run's;
    "unknown" when nothing was measured.
    """
    medians = _medians(history)
    if not medians:
        return {"verdict": "unknown", "why": "no layer was measured", "layers": {}}
    blocks = [name for name in medians if is_block(name)]
    last_gradient = medians[blocks[-1]]["grad_norm"] if blocks else 0.0
    layers: dict[str, dict[str, Any]] = {}
    for name, values in medians.items():
        ratio = values["grad_norm"] / last_gradient if is_block(name) and last_gradient > 0 else None
        layers[name] = {"verdict": _judge_layer(values, ratio), **values}
    growth = _growth(history)
    if growth is not None and growth > EXPLODING_GROWTH:
        why = f"the gradient norm grew {growth:.0f} times from the first to the last quarter of the run"
        return {"verdict": "exploding", "why": why, "layers": layers}
    worst = worst_verdict(layers)
    return {"verdict": worst, "why": _explain(worst, layers, blocks), "layers": layers}


def _judge_layer(values: Mapping[str, float], gradient_ratio: float | None) -> str:
    if not all(math.isfinite(value) for value in values.values()):
        return "exploding"
    if gradient_ratio is not None and gradient_ratio > EXPLODING_RATIO:
        return "exploding"
    if values["grad_norm"] == 0 or (gradient_ratio is not None and gradient_ratio < VANISHING_RATIO):
        return "vanishing"
    if values["update_ratio"] > UNSTABLE_UPDATE:
        return "unstable"
    # Weights that start at zero (biases) have no ratio yet.
    return "stalled" if values["param_norm"] > 0 and values["update_ratio"] < STALLED_UPDATE else "healthy"


def _medians(history: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    series: dict[str, dict[str, list[float]]] = {}
    for line in history:
        for tag, value in line.items():
            parts = tag.split("/")
            if len(parts) == 3 and parts[0] == "layers":
                series.setdefault(parts[1], {}).setdefault(parts[2], []).append(value)
    return {name: {quantity: median(values[quantity]) for quantity in QUANTITIES} for name, values in series.items()}


def _growth(history: Sequence[Mapping[str, Any]]) -> float | None:
    norms = [line["train/grad_norm"] for line in history if "train/grad_norm" in line]
    quarter = len(norms) // 4
    if quarter == 0:
        return None
    first, last = median(norms[:quarter]), median(norms[-quarter:])
    return last / first if first > 0 else None


def worst_verdict(layers: Mapping[str, Mapping[str, Any]]) -> str:
    """The worst of the layers' verdicts."""
    return min((layer["verdict"] for layer in layers.values()), key=SEVERITY.index)


def layers_judged(verdict: str, layers: Mapping[str, Mapping[str, Any]]) -> str:
    """Names of the layers with a verdict."""
    return ", ".join(name for name, layer in layers.items() if layer["verdict"] == verdict)


def _explain(verdict: str, layers: Mapping[str, Mapping[str, Any]], blocks: Sequence[str]) -> str:
    if verdict != "healthy":
        return f"{layers_judged(verdict, layers)}: {WHY[verdict]}"
    updates = [layer["update_ratio"] for layer in layers.values()]
    why = f"updates are {min(updates):.1e} to {max(updates):.1e} of the weights"
    if len(blocks) > 1:
        gradients = [layers[name]["grad_norm"] for name in blocks]
        why = f"gradient norms of the blocks are within a factor of {max(gradients) / min(gradients):.1f}; " + why
    return why
