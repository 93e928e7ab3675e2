"""What modules gave and where attention looked, on one fixed batch over the steps of a training."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from pipeline.modeling.layer_names import is_block, layer_of_matrix
from pipeline.reporting.heatmap import heat_map
from pipeline.reporting.jinja_templates import render
from pipeline.reporting.recorded_curves import Metrics
from pipeline.reporting.run_data import RunData
from pipeline.reporting.sections.base_section import PageSection, Shown

MAX_MODULES = 96
"""Rows of a drawing."""


def _draw(shown: Shown) -> Markup:
    return shown.beside(lambda run: _of_run(run, [one.metrics for one in shown.runs]))


def _of_run(run: RunData, beside: Sequence[Metrics]) -> Markup:
    scales, attention = run.metrics.scales, run.metrics.attention
    names = evenly_of_blocks(list(scales.layers), MAX_MODULES)
    label, marks = "root mean square", [(1.0, "looking evenly at all")]
    charts = [
        heat_map(
            scales,
            title="Outputs",
            scale_label=label,
            names=names,
            what="module",
            beside=[one.scales for one in beside],
        ),
        heat_map(
            attention,
            title="Attention",
            scale_label="entropy / even",
            marks=marks,
            beside=[one.attention for one in beside],
        ),
    ]
    drawn = [Markup(chart) for chart in charts if chart]
    return render("activations.html.j2", charts=drawn) if drawn else Markup()


def evenly_of_blocks(names: Sequence[str], most: int) -> list[str]:
    """Names of modules, of every block or, where they are more than `most`, of every second, third and so on, the last
    block among them; what is in no block is always there."""
    blocks = list(dict.fromkeys(layer for name in names if is_block(layer := layer_of_matrix(name))))
    every = 1
    while True:
        kept = {block for place, block in enumerate(reversed(blocks)) if place % every == 0}
        found = [name for name in names if (layer := layer_of_matrix(name)) in kept or not is_block(layer)]
        if len(found) <= most or len(kept) <= 1:
            return found
        every += 1


SECTION = PageSection("activations", "Activations and attention", _draw, "Activations")
