"""A network as a drawing: every layer with its real size, what is trained filled, what is frozen hatched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import groupby
from typing import Any

from pipeline.reporting.charts import WIDTH, filled_legend
from pipeline.reporting.formats import compact, count, shorten
from pipeline.reporting.svg_axes import rect, svg, text

_PITCH, _BAR, _LABEL, _MARGIN = 24.0, 17.0, 18, 12
_DIGIT = 7.4
_MOST_ROWS = 40
_ALIKE_FROM = 7
"""So many blocks of one shape in a row are drawn as one."""

_COLOURS = {"attention": "s1", "mlp": "s3", "experts": "s3", "norms": "s4", "router": "s5"}
_OTHER = "s2"
_HATCH = (
    '<defs><pattern id="hatch" width="5" height="5" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
    '<path d="M0 0V5" class="hatch"/></pattern></defs>'
)


@dataclass
class _Row:
    """A layer, or `times` alike ones: its label, and how many parameters of each kind are trained and frozen."""

    label: str
    kinds: dict[str, tuple[int, int]] = field(default_factory=dict)
    times: int = 1

    @property
    def size(self) -> int:
        return sum(map(sum, self.kinds.values()))


def network_drawing(parts: Sequence[Mapping[str, Any]]) -> str:
    """A bar for each layer, from the input to the output, in parts by kind; "" of no parts.

    Blocks of one shape that follow one another are one bar, with the size of one of them. `parts` have a `name`, such
    as `layers.0.attention`, `parameters`, and of which as many are `trainable`.
    """
    rows = _alike_as_one(_rows_of(parts))
    more, rows = rows[_MOST_ROWS:], rows[:_MOST_ROWS]
    largest = max((row.size for row in rows), default=0)
    if not largest:
        return ""
    labels = [shorten(row.label, _LABEL) for row in rows]
    sizes = [f"{row.times} \u00d7 {compact(row.size)}" if row.times > 1 else compact(row.size) for row in rows]
    left, right = _MARGIN + _DIGIT * max(map(len, labels)), WIDTH - _MARGIN - _DIGIT * max(map(len, sizes))
    kinds = list(dict.fromkeys(kind for row in rows for kind in row.kinds))
    named = [(kind, _COLOURS[kind]) for kind in kinds if kind in _COLOURS]
    named += [("embeddings and other", _OTHER)] if any(kind not in _COLOURS for kind in kinds) else []
    is_partly_frozen = any(frozen for row in rows for _, frozen in row.kinds.values())
    legend, top = filled_legend([*named, *([("frozen", "frozen")] if is_partly_frozen else [])], WIDTH)
    body = [_HATCH, legend]
    for place, (row, label, size) in enumerate(zip(rows, labels, sizes, strict=True)):
        y = top + place * _PITCH
        body += [text(left - 8, y + 13, label, "tick", "end"), text(right + 8, y + 13, size, "tick")]
        body += _bar(row, left, y, (right - left) / largest)
    bottom = top + len(rows) * _PITCH
    if more:
        body.append(text(left, bottom + 13, f"and {count(sum(row.times for row in more))} more layers", "tick"))
        bottom += _PITCH
    return svg(WIDTH, bottom + 4, "".join(body), "Network: parameters of each layer, trained and frozen")


def _bar(row: _Row, x: float, y: float, scale: float) -> list[str]:
    drawn = []
    for kind, (trained, frozen) in row.kinds.items():
        colour, words = _COLOURS.get(kind, _OTHER), f"{row.label} {kind}".strip()
        told = f"{words}: {count(trained + frozen)} parameters, {count(trained)} trained"
        drawn.append(f"<g><title>{escape(told)}</title>")
        for size, css in ((trained, colour), (frozen, "frozen")):
            if size:
                drawn.append(rect(x, y, size * scale, _BAR, f'class="{css}"'))
                x += size * scale
        drawn.append("</g>")
    return drawn


def _rows_of(parts: Sequence[Mapping[str, Any]]) -> list[_Row]:
    rows: dict[str, _Row] = {}
    for part in parts:
        layer, _, kind = str(part["name"]).rpartition(".")
        if not layer.rpartition(".")[2].isdigit():  # no numbered block: a part by itself
            layer, kind = str(part["name"]), ""
        size = int(part["parameters"])
        trained = int(part.get("trainable", size))
        rows.setdefault(layer, _Row(layer)).kinds[kind] = (trained, size - trained)
    return list(rows.values())


def _alike_as_one(rows: Sequence[_Row]) -> list[_Row]:
    found: list[_Row] = []
    for _, alike in groupby(rows, key=lambda row: list(row.kinds.items())):
        group = list(alike)
        if len(group) < _ALIKE_FROM:
            found += group
        else:
            label = f"{group[0].label} to {group[-1].label.rpartition('.')[2]}"
            found.append(_Row(label, group[0].kinds, len(group)))
    return found
