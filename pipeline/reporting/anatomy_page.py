"""The page about the anatomy of a step, and what the report shows of it."""

from __future__ import annotations

import math
from typing import Any

from markupsafe import Markup

from pipeline.reporting.anatomy_diagram import anatomy_diagram
from pipeline.reporting.anatomy_words import (
    PARTS,
    example_lines,
    figure,
    in_roundings,
    place,
    relative,
    setting,
    sources_of,
    update_lines,
    worst_difference,
)
from pipeline.reporting.formats import real
from pipeline.reporting.jinja_templates import page_style, render, with_labels
from pipeline.tasks import task_named
from pipeline.telemetry.anatomy import Anatomy, Station


def render_anatomy(anatomy: Anatomy, run: str) -> str:
    """The whole page of a run's step. The same record gives the same bytes."""
    return with_labels(render("anatomy_page.html.j2", run=run, view=anatomy_view(anatomy), css=page_style()))


def anatomy_view(anatomy: Anatomy) -> dict[str, Any]:
    """What the template shows: the record, and what is derived from it."""
    predicts = task_named(anatomy.task).predicts
    stations = anatomy.stations
    blocks = [one for one in stations if one.kind == "block"]
    factor = anatomy.factor_per_block
    step = anatomy.update
    return {
        "anatomy": anatomy,
        "predicts": predicts,
        "diagram": Markup(anatomy_diagram(stations)),
        "has_dead_shares": any(one.dead_share is not None for one in stations),
        "has_entropies": any(one.entropy is not None for one in stations),
        "blocks": blocks,
        "embedding": _first(stations, "embedding"),
        "head": _first(stations, "head"),
        "factor": factor,
        "product": None if factor is None else math.prod(one.factor for one in blocks if one.factor),
        "num_factors": sum(one.factor is not None for one in blocks),
        "examples": [
            {"example": one, "lines": example_lines(anatomy.loss, one, anatomy.batch.targets)}
            for one in anatomy.loss.examples
        ],
        "parts": [(PARTS[name], value) for name, value in anatomy.loss.parts.items()],
        "torch_difference": relative(anatomy.loss.objective, anatomy.loss.by_torch),
        "differences": [
            {"place": place(one.parameter, one.index), "difference": relative(one.autograd, one.central), "of": one}
            for one in anatomy.differences
        ],
        "worst_difference": worst_difference(anatomy.differences),
        "updates": []
        if step is None
        else [
            {
                "place": place(one.parameter, one.index),
                "of": one,
                "roundings": in_roundings(one),
                "lines": update_lines(one, step.learning_rate),
            }
            for one in step.updates
        ],
        "change": None if step is None else step.after - anatomy.loss.by_torch,
        "sources": sources_of(anatomy),
        "figure": figure,
        "setting": setting,
        "short": lambda value: real(value, 3),
    }


def _first(stations: list[Station], kind: str) -> Station | None:
    return next((one for one in stations if one.kind == kind), None)
