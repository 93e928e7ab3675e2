"""What a figure consists of over the steps of a training, as SVG text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape

from pipeline.reporting.charts import HEIGHT, STEP_LABEL, WIDTH, filled_legend
from pipeline.reporting.svg_axes import line, linear_scale, number, step_axis, step_scale, svg, text


def stacked_chart(
    columns: Sequence[tuple[int, int]],
    parts: Sequence[tuple[str, str, Sequence[float | None]]],
    *,
    title: str,
    y_label: str,
    reach: float = 0.0,
) -> str:
    """What a figure consists of in each column of steps: `parts` are names, tags of the records, and values by column,
    from the bottom to the top. The axis goes to `reach` at least. "" without columns."""
    kept = [(name, tag, values) for name, tag, values in parts if any(values)]
    if not columns or not kept:
        return ""
    legend, top = filled_legend([(name, f"s{place + 1}") for place, (name, _, _) in enumerate(kept)], WIDTH)
    sums = [sum(values[column] or 0.0 for _, _, values in kept) for column in range(len(columns))]
    bottom, right = top + HEIGHT - 78, WIDTH - 14
    y = linear_scale([*sums, reach], bottom, top, from_zero=True)
    left = 34 + 6.8 * max(3, *(len(name) for _, name in y.ticks))
    x = step_scale([columns[0][0], columns[-1][1]], left, right)
    body = [legend]
    for value, name in y.ticks:
        body.append(line(left, y(value), right, y(value), "grid"))
        body.append(text(left - 8, y(value) + 4, name, "tick", "end"))
    below = [0.0] * len(columns)
    for place, (name, _, values) in enumerate(kept):
        path = ""
        for column, (start, end) in enumerate(columns):
            low, high = below[column], below[column] + (values[column] or 0.0)
            path += f"M{number(x(start))} {number(y(low))}H{number(x(end))}V{number(y(high))}H{number(x(start))}z"
            below[column] = high
        body.append(f'<path d="{path}" class="s{place + 1}"><title>{escape(name)}</title></path>')
    body.append(step_axis(x, bottom, STEP_LABEL))
    body.append(text(-(top + bottom) / 2, 14, y_label + y.factor, "label", "middle", ' transform="rotate(-90)"'))
    data = {"ends": [end for _, end in columns], "tags": [tag for _, tag, _ in kept]}
    told = json.dumps({**data, "values": [[_short(value) for value in values] for _, _, values in kept]})
    words = f"{title}: {y_label} over {STEP_LABEL}"
    return svg(WIDTH, bottom + 44, "".join(body), words, f' data-stacked="{escape(told)}"')


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")
