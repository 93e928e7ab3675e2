"""Gradients and updates: by layer over the steps of a training, their medians, and the scales before the first step."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from markupsafe import Markup

from pipeline.reporting.charts import sparkline
from pipeline.reporting.heatmap import heat_map
from pipeline.reporting.jinja_templates import render
from pipeline.reporting.recorded_curves import Metrics
from pipeline.reporting.run_data import RunData
from pipeline.reporting.sections.activations_section import MAX_MODULES, evenly_of_blocks
from pipeline.reporting.sections.base_section import MAX_ROWS, PageSection, Shown

_TREND_POINTS = 48


def _draw(shown: Shown) -> Markup:
    return shown.beside(lambda run: _of_run(run, [one.metrics for one in shown.runs]))


def _of_run(run: RunData, beside: Sequence[Metrics]) -> Markup:
    return render(
        "gradients.html.j2",
        heat_maps=[Markup(chart) for chart in _heat_maps(run, beside) if chart],
        is_thinned=any(len(grid.layers) > MAX_MODULES for grid in (run.metrics.matrices, run.metrics.outputs)),
        steps_per_column=run.metrics.gradients.steps_per_column,
        layers=_layer_rows(run),
        start=run.start,
        start_rows=_start_rows(run),
    )


def _heat_maps(run: RunData, beside: Sequence[Metrics]) -> Iterator[str]:
    """Of a run, on the scales of all that stand beside each other."""
    marks = [(1e-3, "10⁻³, the usual size of a healthy update")]
    layers = run.metrics.gradients.layers.keys()
    for grid, title, label, what in (
        ("gradients", "Gradients", "norm", "layer"),
        ("updates", "Updates", "norm / weight norm", "layer"),
        ("matrices", "Gradient flow", "norm", "matrix"),
        ("outputs", "Gradient flow through outputs", "norm", "module"),
    ):
        own, others = getattr(run.metrics, grid), [getattr(one, grid) for one in beside]
        if what != "layer" and own.layers.keys() == layers:
            continue
        yield heat_map(
            own,
            title=title,
            scale_label=label,
            marks=marks if grid == "updates" else (),
            names=None if what == "layer" else evenly_of_blocks(list(own.layers), MAX_MODULES),
            what=what,
            beside=others,
        )


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
