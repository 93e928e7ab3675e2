"""How a mixture's tokens spread over its experts, in each layer over the steps of a training."""

from __future__ import annotations

from markupsafe import Markup

from pipeline.reporting.heatmap import heat_map
from pipeline.reporting.jinja_templates import render
from pipeline.reporting.run_data import RunData
from pipeline.reporting.sections.base_section import PageSection, Shown

MAX_EXPERT_ROWS = 256
"""More experts than these of all layers are drawn as the least and the most loaded one of each layer."""


def _draw(shown: Shown) -> Markup:
    return shown.beside(_of_run)


def _of_run(run: RunData) -> Markup:
    metrics, of_fair_share = run.metrics, "load / even share"
    if 0 < len(metrics.experts.layers) <= MAX_EXPERT_ROWS:
        grid, what, label = metrics.experts, "layer and expert", of_fair_share
    elif metrics.expert_extremes.layers:
        grid, what, label = metrics.expert_extremes, "layer", of_fair_share
    else:
        grid, what, label = metrics.mean_loads, "expert, mean over the layers,", "share of the tokens"
    marks = [(1.0, "the even share")] if label == of_fair_share else []
    chart = heat_map(grid, title="Experts", scale_label=label, what=what, marks=marks, height=560)
    return render("experts.html.j2", chart=Markup(chart), grid=what) if chart else Markup()


SECTION = PageSection("experts", "Experts", _draw)
