"""The page about the anatomy of a step, and what the report shows of it."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

from markupsafe import Markup

from pipeline.reporting.anatomy_diagram import anatomy_diagram
from pipeline.reporting.anatomy_words import (
    OTHER_METHODS,
    PARTS,
    alike,
    example_lines,
    figure,
    in_roundings,
    place,
    relative,
    seen,
    setting,
    sources_of,
    unworked_methods,
    update_lines,
    update_meaning,
    worst_difference,
)
from pipeline.reporting.formats import count, power, real
from pipeline.reporting.jinja_templates import page_style, render, with_labels
from pipeline.reporting.part_rows import multipliers_of, rows_of
from pipeline.tasks import task_named
from pipeline.telemetry.anatomy import Anatomy, Clip, Station, Update


def render_anatomy(anatomy: Anatomy, run: str, steps: str = "") -> str:
    """The whole page of a run's step. `steps` are those that there are, in words. The same record gives the same
    bytes."""
    view = anatomy_view(anatomy)
    return with_labels(render("anatomy_page.html.j2", run=run, view=view, steps=steps, css=page_style()))


def anatomy_view(anatomy: Anatomy) -> dict[str, Any]:
    """What the template shows: the record, and what is derived from it."""
    stations, step = anatomy.stations, anatomy.update
    updates = step.updates if step else []
    blocks = [one for one in stations if one.kind == "block"]
    rows = rows_of(anatomy)
    return {
        "anatomy": anatomy,
        "predicts": task_named(anatomy.task).predicts,
        "diagram": Markup(anatomy_diagram(rows)),
        "rows": rows,
        "scales": multipliers_of(anatomy),
        "has_norms_behind": any(one.normed for one in stations),
        "adds": all(one.times is not None or one.given is None for one in blocks),
        "times": next((one.times for one in blocks if one.times not in (None, 1.0)), None),
        **{f"has_{kind}": _first(stations, kind) is not None for kind in ("attention", "mlp", "norm")},
        "has_dead_shares": any(one.dead_share is not None for one in stations),
        "has_entropies": any(one.entropy is not None for one in stations),
        "has_experts": "router" in anatomy.loss.parts,
        "blocks": blocks,
        "embedding": _first(stations, "embedding"),
        "head": _first(stations, "head"),
        "most_dead": max((one.dead_share for one in stations if one.dead_share is not None), default=0.0),
        "entropies": [one.entropy for one in stations if one.entropy is not None],
        "lens": _lens(stations),
        "read": [one for one in stations if one.loss_here is not None],
        **_back(anatomy, blocks),
        "examples": [
            {"example": one, "lines": example_lines(anatomy.loss, one, anatomy.batch.targets)}
            for one in anatomy.loss.examples
        ],
        "extras": " and ".join(PARTS[name].partition(",")[0] for name in anatomy.loss.parts),
        "part_words": ", and ".join(PARTS[name] for name in anatomy.loss.parts),
        "parts": [(PARTS[name], value) for name, value in anatomy.loss.parts.items()],
        "torch_difference": relative(anatomy.loss.objective, anatomy.loss.by_torch),
        "differences": [
            {"place": place(one.parameter, one.index), "difference": relative(one.autograd, one.central), "of": one}
            for one in anatomy.differences
        ],
        "worst_difference": worst_difference(anatomy.differences),
        "updates": [
            {"place": place(one.parameter, one.index), "of": one, "roundings": in_roundings(one)} for one in updates
        ],
        **_worked(updates),
        "others": [(name, OTHER_METHODS.get(name, ("", ""))[0]) for name in unworked_methods(updates)],
        "clip_shown": None if step is None else _clip_shown(step.clip),
        "change": None if step is None else step.after - anatomy.loss.by_torch,
        "sources": sources_of(anatomy),
        "figure": figure,
        "seen": seen,
        "one_in": lambda loss: _rounded(math.exp(loss)),
        "alike": alike,
        "power": power,
        "setting": setting,
        "short": lambda value: real(value, 3),
    }


def _rounded(value: float) -> str:
    """In three digits, and whole from 100 on."""
    return count(round(value)) if value >= 100 else real(value, 3)


def _lens(stations: list[Station]) -> dict[str, Any] | None:
    """By how much the blocks lower the loss, and the one that does most of it; None where they do not."""
    read = [one for one in stations if one.loss_here is not None]
    drops = {after.name: (before.loss_here or 0) - (after.loss_here or 0) for before, after in pairwise(read)}
    total, name = sum(drops.values()), max(drops, key=lambda one: drops[one], default="")
    return {"total": total, "name": name, "most": drops[name]} if total > 0 else None


def _clip_shown(clip: Clip) -> float:
    """What every slope is multiplied by, as the training has it."""
    return clip.factor if clip.factor is not None and figure(clip.factor) == figure(clip.applied) else clip.applied


def _back(anatomy: Anatomy, blocks: list[Station]) -> dict[str, Any]:
    """The blocks' factors on the way back, their mean and product, and the block that changes the gradient most."""
    passing = [one for one in blocks if one.factor]
    given = [one.given for one in passing if one.given]
    most = max(passing, key=lambda one: abs(math.log(one.factor or 1.0)), default=None)
    return {
        "factor": anatomy.factor_per_block,
        "product": math.prod(one.factor for one in passing if one.factor) if passing else None,
        "num_factors": len(passing),
        "most": most,
        "most_is_smallest": len(given) > 1
        and most is not None
        and most.given == min(given, key=lambda one: one.rms)
        and (most.factor or 0) > 1,
    }


def _worked(updates: list[Update]) -> dict[str, Any]:
    """The entry whose update is worked out: the first that has weight decay, or else the first of a known formula."""
    known = [one for one in updates if one.by_hand is not None]
    chosen = next((one for one in known if one.settings["weight_decay"]), known[0] if known else None)
    if chosen is None:
        return {"worked": None}
    undecayed = [one.parameter for one in known if chosen.settings["weight_decay"] and not one.settings["weight_decay"]]
    return {
        "undecayed": undecayed,
        "in_rates": abs(chosen.worked.get("step", 0.0)) / (chosen.settings["lr"] or 1.0),
        "worked": {
            "place": place(chosen.parameter, chosen.index),
            "of": chosen,
            "lines": update_lines(chosen),
            "meaning": update_meaning(chosen),
        },
    }


def _first(stations: list[Station], kind: str) -> Station | None:
    return next((one for one in stations if one.kind == kind), None)
