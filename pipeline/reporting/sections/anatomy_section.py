"""The anatomy of a training's first step, of one in the middle and of its last."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from pipeline.reporting.anatomy_page import anatomy_view
from pipeline.reporting.anatomy_words import in_roundings, worst_difference
from pipeline.reporting.formats import compact
from pipeline.reporting.jinja_templates import render
from pipeline.reporting.run_data import RunData
from pipeline.reporting.sections.base_section import PageSection, Shown
from pipeline.telemetry.anatomy import MOST_RECORDED, Anatomy


def _draw(shown: Shown) -> Markup:
    return shown.beside(_of_run)


def _of_run(run: RunData) -> Markup:
    if not run.anatomies and not run.summary("train"):
        return Markup()
    return render(
        "anatomies.html.j2",
        rows=[_row(one) for one in run.anatomies],
        views=[anatomy_view(one) for one in run.anatomies],
        most_parameters=compact(MOST_RECORDED),
    )


def _row(anatomy: Anatomy) -> dict[str, Any]:
    """The figures by which the steps are compared."""
    step = anatomy.update
    roundings = [found for one in (step.updates if step else ()) if (found := in_roundings(one)) is not None]
    return {
        "step": anatomy.step,
        "loss": anatomy.loss.by_torch,
        "gradient_norm": step.clip.norm if step else None,
        "factor": anatomy.factor_per_block,
        "change": step.after - anatomy.loss.by_torch if step else None,
        "foretold": step.predicted_change if step else None,
        "outputs": anatomy.loss.gradient_difference,
        "differences": worst_difference(anatomy.differences) if anatomy.differences else None,
        "roundings": max(roundings, default=None),
    }


SECTION = PageSection("anatomy", "Anatomy of a step", _draw, "Anatomy")
