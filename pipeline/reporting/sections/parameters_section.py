"""What the network consists of."""

from __future__ import annotations

import re
from typing import Any

from markupsafe import Markup

from pipeline.reporting import formats
from pipeline.reporting.jinja_templates import render
from pipeline.reporting.network_drawing import network_drawing
from pipeline.reporting.run_data import RunData
from pipeline.reporting.sections.base_section import MAX_ROWS, PageSection, Shown
from pipeline.telemetry.probe_figures import NEVER_UPDATED, NEVER_UPDATED_SHARE


def _draw(shown: Shown) -> Markup:
    return shown.beside(
        lambda run: render(
            "parameters.html.j2",
            network=Markup(network_drawing(run.parts)),
            parts=_rows(run),
            num_parameters=run.num_parameters,
            num_trainable=run.summary("model").get("trainable"),
            untaught=_untaught(run),
        )
    )


def _rows(run: RunData) -> list[dict[str, Any]]:
    """Parameters by part, the numbered blocks of one shape in one row."""
    groups: dict[str, list[int]] = {}
    trainable: dict[str, int] = {}
    for part in run.parts:
        name = re.sub(r"\b\d+\b", "N", str(part["name"]))
        groups.setdefault(name, []).append(int(part["parameters"]))
        trainable[name] = trainable.get(name, 0) + int(part.get("trainable", part["parameters"]))
    total = sum(map(sum, groups.values())) or 1
    return [
        {
            "name": name,
            "blocks": len(each),
            "each": each[0] if len(set(each)) == 1 else None,
            "parameters": sum(each),
            "trainable": trainable[name],
            "share": sum(each) / total,
        }
        for name, each in list(groups.items())[:MAX_ROWS]
    ]


def _untaught(run: RunData) -> str:
    """The rows of the token embedding that no step has taught anything; "" where they were not counted."""
    if NEVER_UPDATED not in run.metrics.last or NEVER_UPDATED_SHARE not in run.metrics.last:
        return ""
    step, rows = run.metrics.last[NEVER_UPDATED]
    share = run.metrics.last[NEVER_UPDATED_SHARE][1]
    words = f"{formats.count(rows)} rows of the token embedding ({formats.percent(share)}) had no gradient through the "
    words += f"input up to step {formats.count(step)}"
    data = (run.summary("train").get("facts") or {}).get("data") or {}
    unused, vocabulary = data.get("unused_tokens"), data.get("vocabulary")
    if isinstance(unused, int) and isinstance(vocabulary, int):
        words += f"; {formats.count(unused)} of {formats.count(vocabulary)} tokens never occur in the training text"
    return f"{words}."


SECTION = PageSection("parameters", "Parameters", _draw)
