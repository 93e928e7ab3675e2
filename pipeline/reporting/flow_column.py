"""The data flow of a run as a drawing for narrow screens: the stages below each other."""

from __future__ import annotations

from pipeline.reporting.flow_diagram import (
    TITLE,
    Flow,
    legend,
    route,
)
from pipeline.reporting.svg_axes import svg, text

WIDTH = 334.0
_NODE, _CHARACTERS = 284.0, 42
_GAP, _LINE, _ARROW = 27.0, 15.0, 26.0
_FIRST_LANE, _LANE = 16.0, 14.0

_NEXT = (
    ("ingest", "normalize"), ("normalize", "curate"), ("curate", "augment"), ("tokenizer", "encode"),
    ("encode", "pack"), ("model", "train"), ("train", "evaluate"), ("evaluate", "report"),
)  # fmt: skip
"""Stages that follow one another; an arrow goes down."""

_PAST = (
    ("augment", "encode", 0), ("curate", "tokenizer", 1), ("curate", "encode", 2),
    ("tokenizer", "model", 1), ("pack", "train", 0), ("pack", "evaluate", 2),
)  # fmt: skip
"""Stages between which others stand, and the lane beside the boxes in which their arrow runs."""


def flow_column(flow: Flow) -> str:
    """The stages with the run's own counts, as `flow_diagram` has them."""
    nodes, others = flow.nodes, flow.others
    below = {name: " · ".join(filter(None, words)) for name, words in flow.passed_on.items()}
    beside = {"curate": flow.held_out, "augment": below.pop("augment"), "pack": flow.tested}
    parts = []
    y = 1.0
    for node in (*nodes.values(), *others):
        node.column, node.width, node.characters, node.least = 0, _NODE, _CHARACTERS, 0.0
        node.middle = y + node.height / 2
        y = node.bottom + _GAP
        parts.append(text(_ARROW + 10, node.bottom + 18, below.get(node.name, ""), "flowing"))
        if node.name in below and node.name in beside:
            y += _LINE
        parts.append(text(node.right, y - _GAP + 18, beside.get(node.name, ""), "flowing", "end"))
    for start, end in _NEXT:
        parts.append(route(_ARROW, nodes[start].bottom, _ARROW, nodes[end].top))
    for start, end, lane in _PAST:
        x = _NODE + _FIRST_LANE + lane * _LANE
        leave, enter = nodes[start].bottom - 22 + 5 * lane, nodes[end].top + 14 + 6 * lane
        parts.append(route(_NODE, leave, x, enter, _NODE))
    parts += [node.draw() for node in (*nodes.values(), *others)]
    parts.append(legend(y, flow.differs))
    return svg(WIDTH, y + 106, "".join(parts), TITLE, ' class="flow column"')
