"""What records say about matrices, and about layers from their matrices. Imports nothing heavy.

A record holds `matrices/<name>/<figure>` with the figures grad_norm (before clipping), weight_norm (before the step),
update_norm (of what the step changed), and, where the optimizer's decay is known, step_norm (the update without
decay) and decay_norm. Roots of mean squares are these over the root of the number of entries.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from pipeline.modeling.layer_names import layer_of_matrix

MATRICES, LAYERS = "matrices/", "layers/"


def figures_by_layer(record: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Of each layer of a record grad_norm and param_norm, which are the Euclidean norms of its matrices together, and
    update_ratio, the norm of its update over that of its weights: 0 for zero weights. Nothing where no matrix was
    measured."""
    sums: dict[str, dict[str, list[float]]] = {}
    for tag, value in record.items():
        if tag.startswith(MATRICES):
            name, _, figure = tag.removeprefix(MATRICES).rpartition("/")
            sums.setdefault(layer_of_matrix(name), {}).setdefault(figure, []).append(value)
    return {layer: _of_layer(figures) for layer, figures in sums.items()}


def with_layers(record: Mapping[str, float]) -> dict[str, float]:
    """A record with `layers/<layer>/<figure>` in the place of its matrices: what charts of a whole model show."""
    rest = {tag: value for tag, value in record.items() if not tag.startswith(MATRICES)}
    return rest | {
        f"{LAYERS}{layer}/{figure}": value
        for layer, figures in figures_by_layer(record).items()
        for figure, value in figures.items()
    }


def _of_layer(figures: Mapping[str, Iterable[float]]) -> dict[str, float]:
    gradient, weights, update = (
        math.hypot(*figures.get(figure, ())) for figure in ("grad_norm", "weight_norm", "update_norm")
    )
    return {"grad_norm": gradient, "param_norm": weights, "update_ratio": update / weights if weights > 0 else 0.0}
