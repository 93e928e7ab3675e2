"""Graphs whose edges are streamed and whose nodes are numbers: what hangs together, and what may stay."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

CHUNK_NODES = 4_000_000


def unite(labels: npt.NDArray[np.uint32], edges: Iterable[tuple[npt.NDArray[Any], npt.NDArray[Any]]]) -> None:
    """Give all nodes that edges connect, directly or through others, the label of the least of them.

    Before the first edges, each node's label is its own number; further edges may be added to what came out. Trees of
    labels are hooked to lower ones and flattened (pointer jumping), all edges of a chunk at once.
    """
    for some, others in edges:
        while True:
            left, right = _roots(labels, some), _roots(labels, others)
            apart = left != right
            if not apart.any():
                break
            some, others, left, right = some[apart], others[apart], left[apart], right[apart]
            np.minimum.at(labels, np.maximum(left, right), np.minimum(left, right))
    for start in range(0, len(labels), CHUNK_NODES):
        # A label is at most its node: those before are flat already.
        chunk = slice(start, start + CHUNK_NODES)
        labels[chunk] = _roots(labels, np.arange(start, min(start + CHUNK_NODES, len(labels))))


def _roots(labels: npt.NDArray[np.uint32], nodes: npt.NDArray[Any]) -> npt.NDArray[np.uint32]:
    found = labels[nodes]
    while True:
        above = labels[found]
        if np.array_equal(above, found):
            break
        found = above
    labels[nodes] = found
    return found


STAYS, GOES, WAITS = range(3)


def thin_out(states: npt.NDArray[np.uint8], edges: Iterable[tuple[npt.NDArray[Any], npt.NDArray[Any]]]) -> None:
    """Decide, in the order of their numbers, which nodes go: those with an edge to an earlier one that stays.

    All nodes stay at first. Edges are (node, earlier node), sorted by node; all edges of a node come in one chunk.
    """
    for nodes, earlier in edges:
        states[nodes] = WAITS
        while len(nodes):
            states[nodes[states[earlier] == STAYS]] = GOES
            is_open = states[nodes] == WAITS
            nodes, earlier = nodes[is_open], earlier[is_open]
            waits = states[earlier] == WAITS
            states[nodes] = STAYS
            states[nodes[waits]] = WAITS
            nodes, earlier = nodes[waits], earlier[waits]
