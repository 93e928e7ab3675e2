"""Entries are in the buckets that their values say, on any device and in shards."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from pipeline.telemetry import histograms
from pipeline.telemetry.histograms import (
    LAST,
    NUM_SHOWN,
    bounds_of,
    buckets_between,
    buckets_by_size,
    count_between,
    count_by_size,
)


def spread(count: int = 5000) -> torch.Tensor:
    """Values of every size, whole powers of two and zeros among them."""
    torch.manual_seed(0)
    sizes = 2.0 ** torch.randint(-70, 18, (count,)) * (1 + torch.rand(count).mul(2).round() / 2)
    return sizes * torch.randint(-1, 2, (count,))


VALUES = {
    "of every size": spread(),
    "normal": torch.randn(3000, generator=torch.Generator().manual_seed(1)) * 0.02,
    "bfloat16": torch.randn(500, generator=torch.Generator().manual_seed(2)).bfloat16(),
    "not contiguous": torch.arange(12.0).view(3, 4).t(),
    "one value": torch.ones(7),
    "zeros": torch.zeros(3),
}


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_every_entry_is_in_the_bucket_around_it(values, monkeypatch):
    monkeypatch.setattr(histograms, "MOST_AT_ONCE", 999)
    [counts] = count_by_size([values]).tolist()
    assert sum(counts) == values.numel()
    shown = buckets_by_size(counts)
    flat = values.double().flatten().clamp(-(2.0**LAST) * 0.99, 2.0**LAST * 0.99)  # what is farther is in the outermost
    for left, right, count in shown:
        at_left = flat >= left if left >= 0 else flat > left
        at_right = flat <= right if right <= 0 else flat < right
        assert count == (at_left & at_right).sum()
    assert [right for _, right, _ in shown[:-1]] == [left for left, _, _ in shown[1:]]
    assert shown[0][2] > 0 < shown[-1][2]
    assert len(shown) <= 2 * NUM_SHOWN + 1


def test_what_is_shown_is_fine_where_most_entries_are():
    shown = buckets_by_size(count_by_size([VALUES["normal"]]).tolist()[0])
    whole = shown[-1][1] - shown[0][0]
    assert len(shown) > NUM_SHOWN / 2
    assert max(right - left for left, right, _ in shown) < whole / 8


def test_parts_add_up_and_nothing_is_the_histogram_of_nothing():
    values = VALUES["of every size"]
    parts = count_by_size([values[:1234], values[1234:], values[:0]])
    assert torch.equal(parts.sum(0), count_by_size([values])[0])
    assert buckets_by_size(parts[2].tolist()) == []


def test_what_is_not_finite_is_in_the_outermost_buckets():
    shown = buckets_by_size(count_by_size([torch.tensor([math.inf, -math.inf, 0.0])]).tolist()[0])
    assert shown[0][0] == -(2.0**LAST)
    assert shown[-1][1] == 2.0**LAST
    assert sum(count for _, _, count in shown) == 3


@pytest.mark.parametrize("values", [*VALUES.values()][1:], ids=[*VALUES][1:])
def test_weights_are_counted_between_the_smallest_and_the_largest(values, monkeypatch):
    monkeypatch.setattr(histograms, "MOST_AT_ONCE", 999)
    low, high = values.min().item(), values.max().item()
    bounds = bounds_of([values])
    assert (-bounds[0].item(), bounds[1].item()) == (low, high)
    shown = buckets_between(low, high, count_between([values], bounds).tolist()[0])
    assert sum(count for _, _, count in shown) == values.numel()
    if low < high:
        expected, edges = np.histogram(values.double().numpy(), NUM_SHOWN, (low, high))
        assert [left for left, _, _ in shown] + [shown[-1][1]] == pytest.approx(edges)
        assert [count for _, _, count in shown] == pytest.approx(expected, abs=1)  # one at an edge rounds either way
    else:
        assert shown == [(low - 0.5, low + 0.5, values.numel())]


def test_weights_that_are_not_finite_have_no_buckets():
    for value in (math.inf, -math.inf, math.nan):
        values = torch.tensor([1.0, value])
        bounds = bounds_of([values])
        assert buckets_between(-bounds[0].item(), bounds[1].item(), count_between([values], bounds).tolist()[0]) == []


def test_nothing_waits_for_the_device():
    """A fake tensor has no values that anything could be copied from."""
    with FakeTensorMode():
        tensors = [torch.empty(100), torch.empty(3, 4)]
        assert count_by_size(tensors).shape == (2, histograms.NUM_BUCKETS)
        assert count_between(tensors, bounds_of(tensors)).shape == (2, NUM_SHOWN)
