"""What hangs together, and what may stay, against plain loops."""

import random

import numpy as np
import pytest

from pipeline.corpus import components
from pipeline.corpus.components import GOES, STAYS, thin_out, unite

Edges = list[tuple[int, int]]


def chunks(edges: Edges, size: int) -> list[tuple[np.ndarray, np.ndarray]]:
    arrays = [np.array(edges[start : start + size], np.uint32) for start in range(0, len(edges), size)]
    return [(part[:, 0], part[:, 1]) for part in arrays]


def labels_by_loop(count: int, edges: Edges) -> list[int]:
    labels = list(range(count))
    for _ in range(count):
        for some, other in edges:
            labels[some] = labels[other] = min(labels[some], labels[other])
    return labels


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize("num_edges", [0, 30, 90, 400])
def test_connected_nodes_get_the_number_of_the_first(
    monkeypatch: pytest.MonkeyPatch, num_edges: int, size: int
) -> None:
    monkeypatch.setattr(components, "CHUNK_NODES", 13)
    draw = random.Random(num_edges)
    edges = [(draw.randrange(120), draw.randrange(120)) for _ in range(num_edges)]
    labels = np.arange(120, dtype=np.uint32)
    unite(labels, chunks(edges[: num_edges // 2], size))
    unite(labels, chunks(edges[num_edges // 2 :], size))
    assert labels.tolist() == labels_by_loop(120, edges)


@pytest.mark.parametrize("order", ["up", "down", "mixed"])
def test_long_chains_are_one(order: str) -> None:
    edges = [(n, n + 1) for n in range(5000)]
    if order == "down":
        edges.reverse()
    elif order == "mixed":
        random.Random(1).shuffle(edges)
    labels = np.arange(5002, dtype=np.uint32)
    unite(labels, chunks(edges, 600))
    assert labels.tolist() == [0] * 5001 + [5001]


@pytest.mark.parametrize("num_edges", [0, 40, 200, 1500])
def test_who_has_an_earlier_neighbour_that_stays_goes(num_edges: int) -> None:
    draw = random.Random(num_edges)
    pairs = {tuple(sorted(draw.sample(range(150), 2), reverse=True)) for _ in range(num_edges)}
    pairs |= {(n + 1, n) for n in range(100, 140)}  # a chain: every other one goes
    edges = sorted(pairs)
    expected = [STAYS] * 150
    for node, earlier in edges:
        if expected[earlier] == STAYS:
            expected[node] = GOES
    for cut in (0, 75, 120):
        states = np.zeros(150, np.uint8)
        parts = [[edge for edge in edges if edge[0] < cut], [edge for edge in edges if edge[0] >= cut]]
        thin_out(states, [chunk for part in parts for chunk in chunks(part, 10_000)])
        assert states.tolist() == expected
