"""What is read between the blocks of small networks, whose every sum is known."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from pipeline.training.logit_lens import read_early


class Adding(nn.Module):
    """A block that adds a number, and gives more than that where it is asked to."""

    def __init__(self, number: float, *, gives_pair: bool = False) -> None:
        super().__init__()
        self.number, self.gives_pair, self.calls = number, gives_pair, 0

    def forward(self, hidden: torch.Tensor, *, scale: float = 1.0) -> Any:
        self.calls += 1
        moved = hidden + scale * self.number
        return (moved, "weights") if self.gives_pair else moved


class Network(nn.Module):
    """Blocks, and after them a head that multiplies by ten."""

    def __init__(self, *blocks: nn.Module, times: int = 1) -> None:
        super().__init__()
        self.blocks, self.times = nn.ModuleList(blocks), times

    def forward(self, start: torch.Tensor) -> torch.Tensor:
        hidden = start + 1
        for block in [*self.blocks] * self.times:
            given = block(hidden, scale=2.0)
            hidden = given[0] if isinstance(given, tuple) else given
        return 10 * hidden


@pytest.mark.parametrize("gives_pair", [False, True])
def test_the_head_reads_what_each_block_gives(gives_pair: bool) -> None:
    network = Network(*(Adding(number, gives_pair=gives_pair) for number in (3.0, 5.0, 7.0))).train()
    found = read_early(network, [*network.blocks], lambda: network(torch.zeros(2)))
    assert [one.tolist() for one in found] == [[10.0] * 2, [70.0] * 2, [170.0] * 2, [310.0] * 2]
    assert [block.calls for block in network.blocks] == [1, 1, 1], "each computes once"
    assert network(torch.zeros(2)).tolist() == [310.0] * 2
    assert network.training


class Widening(nn.Module):
    def forward(self, hidden: torch.Tensor, *, scale: float) -> torch.Tensor:
        return hidden.repeat(2)


@pytest.mark.parametrize(
    ("network", "blocks"),
    [
        (Network(Adding(1.0), times=2), slice(None)),
        (Network(Adding(1.0), Widening()), slice(None)),
        (Network(Adding(1.0), Adding(2.0)), slice(None, None, -1)),
    ],
    ids=["run twice", "wider", "backwards"],
)
def test_networks_that_are_built_otherwise_are_refused(network: Network, blocks: slice) -> None:
    with pytest.raises(ValueError, match="block"):
        read_early(network, [*network.blocks][blocks], lambda: network(torch.zeros(2)))
