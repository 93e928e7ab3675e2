"""A heat map of layers over steps, as SVG text, with a logarithmic colour scale."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from html import escape
from itertools import groupby, takewhile
from operator import itemgetter

from pipeline.reporting.charts import STEP_LABEL, WIDTH
from pipeline.reporting.formats import power_of_ten
from pipeline.reporting.recorded_curves import LayerGrid
from pipeline.reporting.svg_axes import line, log_label, number, rect, step_axis, step_scale, svg, text

# Points of matplotlib's viridis: even in lightness, so that it survives colour blindness and grey printing.
_VIRIDIS = ("440154", "482878", "3e4989", "31688e", "26828e", "1f9e89", "35b779", "6ece58", "b5de2b", "fde725")
_NUM_COLOURS = 48
_QUANTILE = 0.005
_LABEL_CHARACTERS, _LABEL_BEGINNING = 18, 4
_HEIGHT, _LEAST, _LETTER = 320.0, 3.3, 15.0
"""Of the rows together; of one row; and of the letters that name one. All maps are of one height, whatever they show,
unless they have very many rows."""


def heat_map(
    grid: LayerGrid,
    *,
    title: str,
    scale_label: str,
    marks: Sequence[tuple[float, str]] = (),
    names: Sequence[str] | None = None,
    what: str = "layer",
    beside: Sequence[LayerGrid] = (),
) -> str:
    """Mean log10 of a figure per layer and column of steps, first layer on top; "" when there is nothing to draw.

    The colour scale spans all but the outermost 0.5 percent of cells, and at least one decade; what lies outside
    takes the end's colour. Cells without a positive value stay grey. `marks` are (value, words) pointed at on the
    colour bar. `names` are those of the rows to be drawn, all where it is None; `what` says what a row is of. The
    scale is that of all grids that stand `beside` each other, this one among them.
    """
    columns, layers = grid.columns(), list(grid.layers if names is None else names)
    rows = [grid.row(layer) for layer in layers]
    if not any(value is not None for row in rows for value in row):
        return ""
    scaled = [other.row(layer) for other in beside or [grid] for layer in names or other.layers]
    known = sorted(value for row in scaled for value in row if value is not None)
    low, high = known[int(_QUANTILE * (len(known) - 1))], known[math.ceil((1 - _QUANTILE) * (len(known) - 1))]
    pad = max(0.0, (1 - (high - low)) / 2)
    low, high = low - pad, high + pad
    row_height = max(_LEAST, _HEIGHT / len(layers))
    labels = layer_labels(layers)
    left, right, top = 12 + 7.2 * max(map(len, labels)), WIDTH - 76.0, 26.0
    bottom = top + row_height * len(layers)
    x = step_scale([columns[0][0], columns[-1][1]], left, right)
    parts = [text(4, 14, f"{title}: {scale_label} by {what}", "title")]
    parts.append(rect(left, top, right - left, bottom - top, 'class="void"'))
    parts += _cells(rows, [(x(a), x(b)) for a, b in columns], low, high, top, row_height)
    every = math.ceil(_LETTER / row_height)
    for index, label in enumerate(labels):
        if index % every == 0:
            y = top + (index + 0.5) * row_height + 4
            parts.append(text(left - 6, y, label, "tick", "end"))
    parts.append(step_axis(x, bottom, STEP_LABEL))
    parts.append(_colour_bar(low, high, right + 12, top, bottom, marks))
    data = {
        "x": [round(left, 2), round(right, 2), columns[0][0], columns[-1][1]],
        "top": top,
        "row": round(row_height, 4),
        "layers": layers,
        "ends": [end for _, end in columns],
        "values": [[None if value is None else round(value, 3) for value in row] for row in rows],
    }
    extra = f' data-heat="{escape(json.dumps(data, separators=(",", ":")))}"'
    words = f"{title}: {scale_label} by {what} over {STEP_LABEL}"
    return svg(WIDTH, bottom + 44, "".join(parts), words, extra)


def layer_labels(names: Sequence[str]) -> list[str]:
    """Short names, still each its own: without what all names in dots begin with (`decoder.layers.3` -> `layers.3`).
    Long ones are cut at the start, or in the middle where their ends are alike."""
    stems = [name.split(".")[:-2] for name in names if name.count(".") >= 2]
    common = [parts[0] for parts in takewhile(lambda parts: len(set(parts)) == 1, zip(*stems, strict=False))]
    start = "".join(f"{part}." for part in common)
    short = [name.removeprefix(start) for name in names]
    if len(set(short)) < len(names):
        short = list(names)
    at_start = [name if len(name) <= _LABEL_CHARACTERS else "…" + name[1 - _LABEL_CHARACTERS :] for name in short]
    if len(set(at_start)) == len(names):
        return at_start
    end = _LABEL_CHARACTERS - _LABEL_BEGINNING - 1
    return [name if len(name) <= _LABEL_CHARACTERS else f"{name[:_LABEL_BEGINNING]}…{name[-end:]}" for name in short]


def _cells(
    rows: Sequence[Sequence[float | None]],
    columns: Sequence[tuple[float, float]],
    low: float,
    high: float,
    top: float,
    row_height: float,
) -> list[str]:
    """One path for each colour; neighbours of the same colour in a row make one rectangle."""
    paths: dict[int, list[str]] = {}
    for index, row in enumerate(rows):
        colours = [None if value is None else _colour_index(value, low, high) for value in row]
        y, height = number(top + index * row_height), number(row_height)
        for colour, run in groupby(zip(colours, columns, strict=True), key=itemgetter(0)):
            spans = [span for _, span in run]
            x1, x2 = number(spans[0][0]), number(spans[-1][1])
            if colour is not None:
                paths.setdefault(colour, []).append(f"M{x1} {y}H{x2}v{height}H{x1}z")
    return [
        f'<path shape-rendering="crispEdges" fill="{_colour(index)}" d="{"".join(paths[index])}"/>'
        for index in sorted(paths)
    ]


def _colour_index(value: float, low: float, high: float) -> int:
    return max(0, min(_NUM_COLOURS - 1, int((value - low) / (high - low) * _NUM_COLOURS)))


def _colour(index: int) -> str:
    position = index / (_NUM_COLOURS - 1) * (len(_VIRIDIS) - 1)
    at = min(int(position), len(_VIRIDIS) - 2)
    mixed = []
    for channel in (0, 2, 4):
        first, second = (int(_VIRIDIS[at + i][channel : channel + 2], 16) for i in (0, 1))
        mixed.append(round(first + (second - first) * (position - at)))
    return "#" + "".join(f"{value:02x}" for value in mixed)


def _colour_bar(
    low: float, high: float, x: float, top: float, bottom: float, marks: Sequence[tuple[float, str]]
) -> str:
    height = (bottom - top) / _NUM_COLOURS
    parts = [rect(x, bottom - (i + 1) * height, 12, height + 0.5, f'fill="{_colour(i)}"') for i in range(_NUM_COLOURS)]

    def y(value: float) -> float:
        return bottom - (value - low) / (high - low) * (bottom - top)

    whole = range(math.ceil(low), math.floor(high) + 1)
    if len(whole) >= 3:
        ticks = [(float(e), power_of_ten(e)) for e in whole[:: math.ceil(len(whole) / 8)]]
    else:
        grid = [m * 10.0**e for e in range(math.floor(low), math.ceil(high)) for m in (1, 2, 5)]
        ticks = [(math.log10(mark), log_label(mark)) for mark in grid if low <= math.log10(mark) <= high]
    for value, name in ticks:
        at = min(max(y(value), top + 5), bottom - 3)
        parts.append(line(x + 12, y(value), x + 15, y(value), "axis"))
        parts.append(text(x + 17, at + 4, name, "tick"))
    for value, words in marks:
        if low < math.log10(value) < high:
            at = y(math.log10(value))
            parts.append(
                f'<path d="M{number(x - 1)} {number(at)}l-6 -4v8z" class="mark"><title>{escape(words)}</title></path>'
            )
    return "".join(parts)
