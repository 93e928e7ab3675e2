"""What records say about matrices, and about layers from their matrices. Imports nothing heavy.

A record holds `matrices/<name>/<figure>` with the figures grad_norm (before clipping), weight_norm (before the step),
update_norm (of what the step changed), and, where the optimizer's decay is known, step_norm (the update without
decay) and decay_norm. Where momentum carries decay on, decay_norm is what the step's decay takes in all, and there is
no step_norm. Roots of mean squares are these over the root of the number of entries.
"""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.modeling.layer_names import layer_of_matrix
from pipeline.telemetry.probe_figures import PROBE

MATRICES, LAYERS = "matrices/", "layers/"
LAYER_FIGURES = ("grad_norm", "param_norm", "update_ratio")


def figures_by_layer(record: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """The LAYER_FIGURES of each layer of a record: grad_norm and param_norm, which are the Euclidean norms of its
    matrices together, and update_ratio, the norm of its update over that of its weights: 0 for zero weights. Nothing
    where no matrix was measured, and without what is no norm in a file that was altered."""
    norms: dict[str, dict[str, list[float]]] = {}
    for tag, value in record.items():
        if tag.startswith(MATRICES) and isinstance(value, (int, float)) and 0 <= value <= sys.float_info.max:
            name, _, figure = tag.removeprefix(MATRICES).rpartition("/")
            norms.setdefault(layer_of_matrix(name), {}).setdefault(figure, []).append(value)
    return {layer: _of_layer(figures) for layer, figures in norms.items()}


def figures_of_matrices(record: Mapping[str, Any], figure: str) -> dict[str, float]:
    """One figure of each matrix of a record, by its name, where it is above 0; biases are left out."""
    ends = len(MATRICES), -len(figure) - 1
    found = {
        tag[slice(*ends)]: value
        for tag, value in record.items()
        if tag.startswith(MATRICES) and tag.endswith(f"/{figure}")
    }
    return {name: value for name, value in found.items() if value > 0 and not name.endswith("bias")}


def in_folders(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record as TensorBoard and other trackers group it, by the first word of a tag: a layer has a folder, with its
    own figures, `layers.0/grad_norm`, and those of its matrices, `layers.0/self_attn.q_proj/grad_norm`."""
    shown = {tag_in_folder(tag): value for tag, value in record.items()}
    names = {tag.removeprefix(MATRICES).rpartition("/")[0] for tag in record if tag.startswith(MATRICES)}
    num_matrices = Counter(map(layer_of_matrix, names))
    for layer, figures in figures_by_layer(record).items():
        for figure, value in figures.items():
            if num_matrices[layer] > 1 or figure == "update_ratio":  # norms of an only matrix are there already
                shown[f"{layer}/{figure}"] = value
    return shown


def tag_in_folder(tag: str) -> str:
    """`matrices/<name>/<figure>` and `probe/<module>/<figure>` in the folder of their layer; any other tag as it is."""
    part = next((part for part in (MATRICES, PROBE) if tag.startswith(part)), None)
    name, _, figure = tag.removeprefix(part or "").rpartition("/")
    if part is None or not name:
        return tag
    layer = layer_of_matrix(name)
    inside = name.removeprefix(layer).removeprefix(".") or ("weight" if part == MATRICES else "output")
    return f"{layer}/{inside}/{figure}"


def with_layers(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record with `layers/<layer>/<figure>` in the place of its matrices: what charts of a whole model show."""
    rest = {tag: value for tag, value in record.items() if not tag.startswith(MATRICES)}
    return rest | {
        f"{LAYERS}{layer}/{figure}": value
        for layer, figures in figures_by_layer(record).items()
        for figure, value in figures.items()
    }


def _of_layer(norms: Mapping[str, Sequence[float]]) -> dict[str, float]:
    together = {figure: math.hypot(*values) for figure, values in norms.items()}
    weights, update = together.get("weight_norm"), together.get("update_norm")
    ratio = None if weights is None or update is None else update / weights if weights > 0 else 0.0
    found = zip(LAYER_FIGURES, (together.get("grad_norm"), weights, ratio), strict=True)
    return {figure: value for figure, value in found if value is not None}
