"""Where the loss of a model comes from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from markupsafe import Markup

from pipeline.reporting import formats
from pipeline.reporting.charts import ChartBar, bar_chart
from pipeline.reporting.jinja_templates import render
from pipeline.reporting.reliability import reliability_diagram
from pipeline.reporting.run_data import RunData
from pipeline.reporting.sections.base_section import PageSection, Shown


def _draw(shown: Shown) -> Markup:
    return shown.beside(_of_run)


def _of_run(run: RunData) -> Markup:
    found = run.summary("evaluate").get("calibration") or {}
    charts, worst = list(filter(None, _charts(run))), _worst(run)
    diagram = reliability_diagram(found.get("bins") or (), title="Calibration: how often the model was right")
    if not (charts or diagram or worst):
        return Markup()
    return render(
        "loss.html.j2",
        charts=[Markup(chart) for chart in charts],
        reliability=Markup(diagram),
        calibration_error=found.get("error"),
        worst_documents=worst,
        words=run.words,
    )


def _charts(run: RunData) -> Iterator[str]:
    """The loss by position in the window and by how frequent tokens are in training; "" for what was not measured."""
    evaluation, label = run.summary("evaluate"), run.words.loss
    bars = [ChartBar(_range(one["from"], one["to"]), one["loss"]) for one in evaluation.get("by_position") or ()]
    yield bar_chart(bars, title="Loss by the number of tokens before the target", x_label=label)
    bars = [ChartBar(_group(one), one["loss"]) for one in evaluation.get("by_frequency") or ()]
    yield bar_chart(bars, title="Loss by how frequent tokens are in training", x_label=label)


def _worst(run: RunData) -> list[dict[str, Any]]:
    """The documents with the largest figures: its value, name and place, and how each begins."""
    found = run.summary("evaluate").get("worst_documents") or []
    return [{**one, "value": next(one[key] for key in ("bits_per_byte", "loss") if key in one)} for one in found]


def _range(low: int, high: int) -> str:
    return formats.count(low) if low == high else f"{formats.count(low)} to {formats.count(high)}"


def _group(one: dict[str, Any]) -> str:
    tenth = "never in training" if one["group"] == 10 else f"tenth {one['group'] + 1}"
    return f"{tenth}: {formats.compact(one['kinds'])} ids"


SECTION = PageSection("loss-sources", "Where the loss comes from", _draw, "Loss")
