"""How sure a model was and how often it was right, as SVG text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from pipeline.reporting.charts import WIDTH
from pipeline.reporting.formats import count, percent, plural
from pipeline.reporting.svg_axes import line, linear_scale, number, svg, text


def reliability_diagram(bins: Sequence[Mapping[str, float]], *, title: str) -> str:
    """How often predictions were right over how sure the model was, a circle for each group, whose area is the number
    of its predictions; on the line a model is right as often as it is sure. "" of no groups."""
    if not bins:
        return ""
    left, right, top, bottom = 66.0, 346.0, 12.0, 292.0
    x = linear_scale([0, 1], left, right, num_ticks=4, from_zero=True)
    y = linear_scale([0, 1], bottom, top, num_ticks=4, from_zero=True)
    body = []
    for mark in (0.0, 0.25, 0.5, 0.75, 1.0):
        body += [line(left, y(mark), right, y(mark), "grid"), line(x(mark), top, x(mark), bottom, "grid")]
        body.append(text(left - 8, y(mark) + 4, f"{mark:.0%}", "tick", "end"))
        body.append(text(x(mark), bottom + 20, f"{mark:.0%}", "tick", "middle"))
    body.append(line(left, bottom, right, top, "level"))
    largest = max(one["predictions"] for one in bins)
    for one in bins:
        sure, right_share, predictions = one["confidence"], one["accuracy"], one["predictions"]
        told = f"sure to {percent(sure)}, right in {percent(right_share)}: {plural(predictions, 'prediction', count)}"
        radius = max(2.0, 13 * math.sqrt(predictions / largest))
        place = f'cx="{number(x(sure))}" cy="{number(y(right_share))}" r="{number(radius)}"'
        body.append(f'<circle {place} class="bubble"><title>{told}</title></circle>')
    body.append(text((left + right) / 2, bottom + 38, "how sure the model was", "label", "middle"))
    words = "how often it was right"
    body.append(text(-(top + bottom) / 2, left - 52, words, "label", "middle", ' transform="rotate(-90)"'))
    return svg(WIDTH, bottom + 44, "".join(body), title)
