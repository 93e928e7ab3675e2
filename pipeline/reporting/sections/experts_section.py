"""How a mixture's tokens spread over its experts, in each layer over the steps of a training."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from pipeline.reporting.heatmap import heat_map
from pipeline.reporting.jinja_templates import render
from pipeline.reporting.recorded_curves import LayerGrid, Metrics
from pipeline.reporting.run_data import RunData
from pipeline.reporting.sections.base_section import PageSection, Shown

MAX_EXPERT_ROWS = 256
"""More experts than these of all layers are drawn as the least and the most loaded one of each layer."""


def _draw(shown: Shown) -> Markup:
    return shown.beside(lambda run: _of_run(run, [_grid_of(one.metrics) for one in shown.runs]))


def _of_run(run: RunData, beside: Sequence[tuple[LayerGrid, str]]) -> Markup:
    grid, what = _grid_of(run.metrics)
    is_of_layers = grid is not run.metrics.mean_loads
    chart = heat_map(
        grid,
        title="Experts",
        scale_label="load / even share" if is_of_layers else "share of the tokens",
        marks=[(1.0, "the even share")] if is_of_layers else [],
        what=what,
        beside=[other for other, rows in beside if rows == what],
    )
    return render("experts.html.j2", chart=Markup(chart), grid=what) if chart else Markup()


def _grid_of(metrics: Metrics) -> tuple[LayerGrid, str]:
    """The finest grid that was recorded and has room, and what its rows are of."""
    if 0 < len(metrics.experts.layers) <= MAX_EXPERT_ROWS:
        return metrics.experts, "layer and expert"
    if metrics.expert_extremes.layers:
        return metrics.expert_extremes, "layer"
    return metrics.mean_loads, "expert, mean over the layers"


SECTION = PageSection("experts", "Experts", _draw)
