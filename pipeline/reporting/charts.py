"""Charts as SVG text: lines over steps, bars, sparklines. Colours and sizes of text are the style sheet's."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape

from pipeline.reporting.formats import real, shorten
from pipeline.reporting.recorded_curves import Point
from pipeline.reporting.svg_axes import (
    Scale,
    line,
    linear_scale,
    log_scale,
    number,
    rect,
    step_axis,
    step_scale,
    svg,
    text,
)

STEP_LABEL = "step (optimizer updates)"
WIDTH, HEIGHT = 370, 240
"""Of a drawing, such that its text can be read on a phone."""

_TEXT_HEIGHT = 15.0
_NEAR = 0.6
"""How far beyond the curves a level is drawn, as a share of their range."""


@dataclass(frozen=True)
class Line:
    """One series. `css` is its class in the style sheet: c1, c2, ... for the colour, `faint`, `dashed`. `tag`: of the
    records whose very values it shows."""

    label: str
    points: Sequence[Point]
    css: str
    markers: bool = False
    tag: str = ""


@dataclass(frozen=True)
class Level:
    """A horizontal line at a value that curves are held against."""

    label: str
    value: float


def line_chart(
    lines: Sequence[Line], *, title: str, y_label: str, log_y: bool = False, levels: Sequence[Level] = ()
) -> str:
    """Series over training steps, with axes, grid and legend. Series without points are left out; "" when none has any.

    On a logarithmic axis values that are not positive are left out. So are levels that lie far from all curves.
    """
    kept = [
        replace(each, points=points)
        for each in lines
        if (points := [point for point in each.points if not log_y or point[1] > 0])
    ]
    if not kept:
        return ""
    right = WIDTH - 14
    legend, rows = _legend(kept, right)
    top, bottom = 16.0 + 18 * rows, HEIGHT - 44
    values = [p[1] for each in kept for p in each.points]
    levels = _near(levels, values)
    values += [level.value for level in levels]
    y = log_scale(values, bottom, top) if log_y else linear_scale(values, bottom, top)
    left = 34 + 6.8 * max(3, *(len(name) for _, name in y.ticks))
    x = step_scale([p[0] for each in kept for p in each.points], left, right)
    parts = []
    for value, name in y.ticks:
        parts.append(line(left, y(value), right, y(value), "grid"))
        parts.append(text(left - 8, y(value) + 4, name, "tick", "end"))
    parts.append(step_axis(x, bottom, STEP_LABEL))
    label = y_label + y.factor + (", log scale" if log_y else "")
    parts.append(text(-(top + bottom) / 2, 14, label, "label", "middle", ' transform="rotate(-90)"'))
    parts.append(legend)
    parts += [line(left, y(level.value), right, y(level.value), "level") for level in levels]
    for each in kept:
        pixels = " ".join(f"{number(x(step))},{number(y(value))}" for step, value in each.points)
        hover = f' data-label="{escape(each.label)}"' + (f' data-tag="{escape(each.tag)}"' if each.tag else "")
        parts.append(f'<polyline points="{pixels}" class="series {each.css}"{hover}/>')
        if each.markers or len(each.points) == 1:
            shown = each.points if len(each.points) <= 60 else ()
            parts += [
                f'<circle cx="{number(x(s))}" cy="{number(y(v))}" r="3" class="dot {each.css}"/>' for s, v in shown
            ]
    parts += _level_names(levels, y, right)
    scales = {"x": [left, right, x.low, x.high], "y": [bottom, top, y.low, y.high], "log": log_y}
    extra = f" data-lines='{json.dumps(scales)}'"
    return svg(WIDTH, HEIGHT, "".join(parts), f"{title}: {y_label} over {STEP_LABEL}", extra)


def _near(levels: Sequence[Level], values: Sequence[float]) -> list[Level]:
    """The levels for which a drawing of the values need not be much higher."""
    room = _NEAR * (max(values) - min(values))
    return [level for level in levels if min(values) - room <= level.value <= max(values) + room]


def _level_names(levels: Sequence[Level], y: Scale, right: float) -> list[str]:
    """The names of levels above their lines at the right end, or beside each other where lines are close."""
    parts: list[str] = []
    taken: list[tuple[float, float]] = []  # the height of each name, and where it begins
    for level in sorted(levels, key=lambda level: -level.value):
        at = y(level.value)
        end = min((begin - 10 for height, begin in taken if abs(height - at) < _TEXT_HEIGHT), default=right)
        taken.append((at, end - 6.2 * len(level.label)))
        parts.append(text(end, at - 4, level.label, "level-name", "end"))
    return parts


def _legend(lines: Sequence[Line], right: float) -> tuple[str, int]:
    """The names of lines from the left to the right, and how many rows they take."""
    widths = [44 + 6.2 * len(each.label) for each in lines]
    rows: list[list[int]] = [[]]
    for place, width in enumerate(widths):
        if rows[-1] and sum(widths[other] for other in rows[-1]) + width > right:
            rows.append([])
        rows[-1].append(place)
    parts: list[str] = []
    for number_of_row, row in enumerate(rows):
        at, y = right - sum(widths[place] for place in row) + 16, 16.0 + 18 * number_of_row
        for place in row:
            each = lines[place]
            parts.append(line(at, y - 4, at + 22, y - 4, f"series {each.css}"))
            if each.markers:
                parts.append(f'<circle cx="{number(at + 11)}" cy="{number(y - 4)}" r="3" class="dot {each.css}"/>')
            parts.append(text(at + 28, y, each.label, "legend"))
            at += widths[place]
    return "".join(parts), len(rows)


def filled_legend(names: Sequence[tuple[str, str]], width: float) -> tuple[str, float]:
    """Squares in the colours of a style sheet's classes, each with its name; and the height below them."""
    parts, at, y = [], 16.0, 6.0
    for name, css in names:
        needed = 22 + 6.6 * len(name)
        if at > 16 and at + needed > width:
            at, y = 16.0, y + 18
        parts.append(rect(at, y, 12, 12, f'class="{css}"'))
        parts.append(text(at + 18, y + 10, name, "legend"))
        at += needed + 14
    return "".join(parts), y + 24


@dataclass(frozen=True)
class ChartBar:
    """One bar; `highlight` marks the run's own model."""

    label: str
    value: float
    highlight: bool = False


def bar_chart(bars: Sequence[ChartBar], *, title: str, x_label: str, reach: float = 0.0) -> str:
    """Horizontal bars from zero, each below its name and with its value. The axis goes to `reach` at least."""
    if not bars:
        return ""
    left, right, top, pitch = 14.0, WIDTH - 60.0, 26.0, 36.0
    bottom = top + pitch * len(bars)
    x = linear_scale([*(bar.value for bar in bars), reach], left, right, from_zero=True)
    parts = [text(4, 14, title, "title")]
    for row, bar in enumerate(bars):
        y = top + row * pitch
        own = " own" if bar.highlight else ""
        length = max(0.0, x(bar.value) - left)
        parts.append(rect(left, y + 18, length, 12, f'class="bar{own}"'))
        parts.append(text(left, y + 13, shorten(bar.label, 40), f"name{own}"))
        parts.append(text(left + length + 6, y + 29, real(bar.value), "value"))
    parts.append(step_axis(x, bottom, x_label))
    return svg(WIDTH, bottom + 44, "".join(parts), title)


def sparkline(values: Sequence[float | None]) -> str:
    """A small line without axes, scaled to its own range; gaps where there is no value."""
    width, height = 120.0, 22.0
    known = [value for value in values if value is not None]
    if len(known) < 2:
        return ""
    low, high = min(known), max(known)
    span = high - low or 1.0
    paths, open_path = [], False
    for index, value in enumerate(values):
        if value is None:
            open_path = False
            continue
        x = index / (len(values) - 1) * (width - 2) + 1
        y = height - 2 - (value - low) / span * (height - 4)
        paths.append(f"{'L' if open_path else 'M'}{number(x)} {number(y)}")
        open_path = True
    return svg(width, height, f'<path d="{"".join(paths)}" class="spark"/>', "trend", ' class="sparkline"')
