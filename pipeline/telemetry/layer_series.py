"""The figures of each layer in the records of a training. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from statistics import median
from typing import Any

from pipeline.modeling.layer_names import is_block
from pipeline.telemetry.matrix_figures import LAYER_FIGURES, figures_by_layer

Layers = dict[str, dict[str, float]]
"""Norm of the gradient, norm of the weights and ||update|| / ||weights|| by layer, from input to output."""


def layers_in(record: Mapping[str, Any]) -> Layers:
    """The layers that a record measured wholly; none in most of them."""
    found = figures_by_layer(record)
    return {layer: figures for layer, figures in found.items() if len(figures) == len(LAYER_FIGURES)}


def blocks_in(layers: Layers) -> Layers:
    """The numbered blocks among them: they share one shape, so that their norms compare."""
    return {name: figures for name, figures in layers.items() if is_block(name)}


def median_layers(records: Iterable[Mapping[str, Any]]) -> Layers:
    """Medians over the records of a training, by layer."""
    series: dict[str, list[dict[str, float]]] = {}
    for record in records:
        for layer, figures in layers_in(record).items():
            series.setdefault(layer, []).append(figures)
    return {
        layer: {figure: median(one[figure] for one in found) for figure in LAYER_FIGURES}
        for layer, found in series.items()
    }


def names_in_words(names: list[str]) -> str:
    """Names of layers: all of a few, otherwise the first, the last and how many."""
    return ", ".join(names) if len(names) <= 3 else f"{names[0]} to {names[-1]} ({len(names)} layers)"
