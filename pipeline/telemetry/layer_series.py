"""The figures of each layer in the records of a training. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from statistics import median
from typing import Any

LAYERS = "layers/"
LAYER_FIGURES = ("grad_norm", "param_norm", "update_ratio")

Layers = dict[str, dict[str, float]]
"""Norm of the gradient, norm of the weights and ||update|| / ||weights|| by layer, from input to output."""


def layers_in(record: Mapping[str, Any]) -> Layers:
    """The layers that a record measured; none in most of them."""
    found: Layers = {}
    for tag, value in record.items():
        if tag.startswith(LAYERS):
            layer, _, figure = tag.removeprefix(LAYERS).rpartition("/")
            found.setdefault(layer, {})[figure] = value
    return {layer: figures for layer, figures in found.items() if set(LAYER_FIGURES) <= figures.keys()}


def blocks_in(layers: Layers) -> Layers:
    """The numbered blocks among them: they share one shape, so that their norms compare."""
    return {name: figures for name, figures in layers.items() if name.rpartition(".")[2].isdigit()}


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
