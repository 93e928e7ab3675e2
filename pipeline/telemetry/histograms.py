"""Histograms of tensors, counted on the device in buckets that are the same for all, so that shards add up.

Each power of two from 2^FIRST to 2^LAST has PARTS buckets of one width, above and below zero. What is nearer to zero is
in one bucket, and what is farther in the outermost.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

FIRST, LAST, PARTS = -64, 16, 4
PER_SIDE = (LAST - FIRST) * PARTS
NUM_BUCKETS = 2 * PER_SIDE + 1
PART_BITS = 21
"""Bits of a float32 that a bucket leaves out: those of the mantissa but the first two, which tell PARTS apart."""

EXPONENT_BIAS = 127
MOST_AT_ONCE = 2**24
"""Entries that are counted together; more would need too much memory."""

NUM_SHOWN = 64
"""A bucket that is shown is as wide as the whole range over this, or as it was counted where that is wider."""

Buckets = list[tuple[float, float, float]]
"""(left edge, right edge, entries) of each, from left to right without a gap."""


@torch.no_grad()
def count_entries(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """The entries of each tensor in each bucket, shape (tensors, NUM_BUCKETS), float64 on their device. Nothing is
    copied to the host. By sorting, since what adds up in any order is refused by deterministic algorithms on a GPU."""
    edges = torch.arange(NUM_BUCKETS + 1, dtype=torch.int16, device=tensors[0].device)
    counts = [torch.zeros(NUM_BUCKETS, dtype=torch.float64, device=edges.device) for _ in tensors]
    for total, tensor in zip(counts, tensors, strict=True):
        for part in tensor.reshape(-1).split(MOST_AT_ONCE):
            total += torch.searchsorted(_bucket_of(part).sort().values, edges).diff()
    return torch.stack(counts)


def _bucket_of(values: torch.Tensor) -> torch.Tensor:
    """The number of each value's bucket: the first bits of a float32 grow with its size."""
    bits = values.float().view(torch.int32)
    size = (bits & 0x7FFFFFFF).bitwise_right_shift_(PART_BITS)
    size.sub_((EXPONENT_BIAS + FIRST) * PARTS - 1).clamp_(0, PER_SIDE)
    return torch.where(bits < 0, PER_SIDE - size, PER_SIDE + size).short()


def shown_buckets(counts: Sequence[float]) -> Buckets:
    """The counts of one tensor between its outermost entries, narrow buckets put together; empty of no entries."""
    filled = [bucket for bucket, count in enumerate(counts) if count]
    if not filled:
        return []
    first, last = filled[0], filled[-1]
    width = (_edge(last + 1) - _edge(first)) / NUM_SHOWN
    shown: Buckets = []
    for bucket in range(first, last + 1):
        right, count = _edge(bucket + 1), counts[bucket]
        if shown and right - shown[-1][0] <= width:
            left, _, before = shown.pop()
            shown.append((left, right, before + count))
        else:
            shown.append((_edge(bucket), right, count))
    return shown


def _edge(bucket: int) -> float:
    """The left edge of a bucket."""
    if bucket <= PER_SIDE:
        return -_size(PER_SIDE - bucket)
    return _size(bucket - PER_SIDE - 1)


def _size(position: int) -> float:
    octave, part = divmod(position, PARTS)
    return (1 + part / PARTS) * 2.0 ** (FIRST + octave)
