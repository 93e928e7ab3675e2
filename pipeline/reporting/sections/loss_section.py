"""Where the loss of a model comes from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from markupsafe import Markup

from pipeline.reporting import formats
from pipeline.reporting.charts import ChartBar, bar_chart
from pipeline.reporting.jinja_templates import render
from pipeline.reporting.reliability import reliability_diagram
from pipeline.reporting.run_data import RunData
from pipeline.reporting.sections.base_section import PageSection, Shown


def _draw(shown: Shown) -> Markup:
    return shown.beside(lambda run: _of_run(run, shown.runs))


def _of_run(run: RunData, beside: Sequence[RunData]) -> Markup:
    found = run.summary("evaluate").get("calibration") or {}
    charts, worst = list(filter(None, _charts(run, beside))), _worst(run)
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


def _charts(run: RunData, beside: Sequence[RunData]) -> Iterator[str]:
    """The loss by position in the window and by how frequent tokens are in training, on the scale of all runs that
    stand beside each other; "" for what was not measured."""
    for key, name, title in (
        ("by_position", _range, "Loss by the number of tokens before the target"),
        ("by_frequency", _group, "Loss by how frequent tokens are in training"),
    ):
        found = [one.summary("evaluate").get(key) or () for one in beside]
        reach = max((one["loss"] for groups in found for one in groups), default=0.0)
        bars = [ChartBar(name(one), one["loss"]) for one in run.summary("evaluate").get(key) or ()]
        yield bar_chart(bars, title=title, x_label=run.words.loss, reach=reach)


def _worst(run: RunData) -> list[dict[str, Any]]:
    """The documents with the largest figures: its value, name and place, and how each begins."""
    found = run.summary("evaluate").get("worst_documents") or []
    return [{**one, "value": next(one[key] for key in ("bits_per_byte", "loss") if key in one)} for one in found]


def _range(one: dict[str, Any]) -> str:
    low, high = one["from"], one["to"]
    return formats.count(low) if low == high else f"{formats.count(low)} to {formats.count(high)}"


def _group(one: dict[str, Any]) -> str:
    tenth = "never in training" if one["group"] == 10 else f"tenth {one['group'] + 1}"
    return f"{tenth}: {formats.compact(one['kinds'])} ids"


SECTION = PageSection("loss-sources", "Where the loss comes from", _draw, "Loss")
