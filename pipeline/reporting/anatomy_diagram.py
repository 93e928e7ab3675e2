"""The way of a batch through the network and back, as a drawing."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from pipeline.reporting.formats import real
from pipeline.reporting.part_rows import ADDED, PartRow
from pipeline.reporting.svg_axes import line, number, rect, svg, text

WIDTH, ROW, TOP = 370.0, 26.0, 30.0
LEFT, BOX, BAR = 20.0, 120.0, 34.0
FIRST, SECOND = LEFT + BOX + 8, LEFT + BOX + 106
LONGEST_NAME = 14
MOST_ROWS = 40
"""Of a network with more parts the blocks alone are drawn, and of more blocks the first and last ones."""


def anatomy_diagram(rows: Sequence[PartRow]) -> str:
    """Parts from the first to the last, going down with the size of what they give, and up again with that of the
    gradient; both bars are logarithmic."""
    stations = [one for one in rows if one.kind != ADDED]
    shown, gap = _shown(stations)
    kinds = Counter(one.kind for one in stations)
    sizes, gradients = ([getattr(one, name) for one in shown] for name in ("rms", "gradient_norm"))
    parts = [
        text(4, 16, "forward", "legend"),
        text(FIRST, 16, "RMS", "label"),
        text(SECOND, 16, "gradient, length", "label"),
    ]
    y = TOP
    for index, station in enumerate(shown):
        if index == gap:
            parts.append(text(LEFT, y + 15, f"… {len(stations) - len(shown):,} parts are left out …", "label"))
            y += ROW
        inset = 12.0 if station.kind in ("attention", "mlp") else 0.0
        css = "tokens" if station.kind in ("embedding", "head") else "documents" if inset else "network"
        parts.append(rect(LEFT + inset, y, BOX - inset, 22, f'rx="4" class="node {css}"'))
        parts.append(text(LEFT + inset + 5, y + 15, _label(station, kinds[station.kind] == 1), "fact"))
        parts += _bar(FIRST, y, station.rms, sizes, "own")
        parts += _bar(SECOND, y, station.gradient_norm, gradients, "back")
        y += ROW
    bottom = y - ROW + 22
    parts += [_arrow(8, TOP, bottom, down=True), _arrow(WIDTH - 8, TOP, bottom, down=False)]
    parts.append(text(LEFT, bottom + 18, "The bars are logarithmic.", "label"))
    parts.append(text(WIDTH - 4, bottom + 18, "back", "legend", "end"))
    return svg(
        WIDTH, bottom + 26, "".join(parts), "a batch on its way through the network and back", ' class="anatomy"'
    )


def _label(row: PartRow, is_only: bool) -> str:
    """`layers.3` of a block, `3 attention` of a part of one, `embedding` of the only one."""
    words = row.name.split(".")
    name = row.name
    if row.kind in ("attention", "mlp"):
        name = f"{words[-2]} {row.kind}" if len(words) > 1 else row.kind
    elif row.kind in ("embedding", "norm", "head") and is_only:
        name = row.kind
    return name if len(name) <= LONGEST_NAME else f"…{name[1 - LONGEST_NAME :]}"


def _shown(stations: Sequence[PartRow]) -> tuple[list[PartRow], int]:
    """What is drawn, and where something is left out; -1 for nowhere."""
    if len(stations) <= MOST_ROWS:
        return list(stations), -1
    whole = [one for one in stations if one.kind not in ("attention", "mlp")]
    if len(whole) <= MOST_ROWS:
        return whole, -1
    half = MOST_ROWS // 2
    return [*whole[:half], *whole[-half:]], half


def _bar(left: float, top: float, value: float | None, others: Sequence[float | None], css: str) -> list[str]:
    """A bar, logarithmic between the smallest and the largest value, and the value."""
    at = left + BAR + 4
    if not value:
        return [text(at, top + 15, "unknown" if value is None else "0", "value")]
    low, high = (math.log10(bound(one for one in others if one)) for bound in (min, max))
    share = 0.08 + 0.92 * (math.log10(value) - low) / (high - low) if high > low else 1.0
    bar = rect(left, top + 6, BAR * share, 10, f'class="bar {css}"')
    return [bar, text(at, top + 15, real(value, 3), "value")]


def _arrow(x: float, top: float, bottom: float, *, down: bool) -> str:
    tip, foot = (bottom, bottom - 7) if down else (top, top + 7)
    head = f'<path d="M{number(x - 4)} {number(foot)}h8L{number(x)} {number(tip)}Z" class="head"/>'
    return line(x, top, x, bottom, "edge") + head
