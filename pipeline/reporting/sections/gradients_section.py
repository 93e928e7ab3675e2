"""Gradients and updates: by layer over the steps of a training, their medians, and the scales before the first step."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from markupsafe import Markup

from pipeline.reporting.charts import sparkline
from pipeline.reporting.heatmap import heat_map
from pipeline.reporting.jinja_templates import render
from pipeline.reporting.run_data import RunData
from pipeline.reporting.sections.activations_section import MAX_MODULES, evenly_of_blocks
from pipeline.reporting.sections.base_section import MAX_ROWS, PageSection, Shown

_TREND_POINTS = 48


def _draw(shown: Shown) -> Markup:
    return shown.beside(_of_run)


def _of_run(run: RunData) -> Markup:
    return render(
        "gradients.html.j2",
        heat_maps=[Markup(chart) for chart in _heat_maps(run) if chart],
        is_thinned=any(len(grid.layers) > MAX_MODULES for grid in (run.metrics.matrices, run.metrics.outputs)),
        steps_per_column=run.metrics.gradients.steps_per_column,
        layers=_layer_rows(run),
        start=run.start,
        start_rows=_start_rows(run),
    )


def _heat_maps(run: RunData) -> Iterator[str]:
    yield heat_map(run.metrics.gradients, title="Gradients", scale_label="gradient norm")
    marks = [(1e-3, "10⁻³, the usual size of a healthy update")]
    yield heat_map(run.metrics.updates, title="Updates", scale_label="update / weight norm", marks=marks)
    flows = ("Gradient flow", run.metrics.matrices, "gradient norm", "matrix"), (
        "Gradient flow through outputs", run.metrics.outputs, "norm of d(loss) / d(output)", "module"
    )  # fmt: skip
    for title, grid, label, what in flows:
        if grid.layers.keys() != run.metrics.gradients.layers.keys():
            names = evenly_of_blocks(list(grid.layers), MAX_MODULES)
            yield heat_map(grid, title=title, scale_label=label, names=names, height=560, what=what)


def _layer_rows(run: RunData) -> list[dict[str, Any]]:
    """Medians of the figures of each layer and the course of its gradient norm."""
    rows = []
    for name, layer in (run.summary("train").get("layers") or {}).items():
        trend = Markup(sparkline(_thinned(run.metrics.gradients.row(name), _TREND_POINTS)))
        figures = {key: layer.get(key) for key in ("grad_norm", "param_norm", "update_ratio")}
        rows.append({"name": name, "trend": trend, **figures})
    return rows


def _start_rows(run: RunData) -> list[dict[str, Any]]:
    """Scales of each block before training, each with its share of the largest, for a bar."""
    layers = run.start.get("layers") or {}
    rows = [
        {
            "name": name,
            "figures": [(layer.get(quantity), 0.0) for quantity in ("activation_rms", "grad_norm")],
        }
        for name, layer in list(layers.items())[:MAX_ROWS]
    ]
    for column in (0, 1):
        largest = max((row["figures"][column][0] or 0 for row in rows), default=0)
        for row in rows:
            value = row["figures"][column][0]
            row["figures"][column] = (value, value / largest if value and largest else 0.0)
    return rows


def _thinned(values: list[float | None], limit: int) -> list[float | None]:
    return values[:: math.ceil(len(values) / limit)] if values else []


SECTION = PageSection("gradients", "Gradients by layer", _draw, "Gradients")
