"""Histograms of tensors, counted on the device so that those of shards add up.

Gradients are around zero and of any size: `count_by_size`, in buckets that are the same for all. Each power of two from
2^FIRST to 2^LAST has PARTS of one width, above and below zero. What is nearer to zero is in one bucket, and what is
farther in the outermost. Weights may lie around anything, such as those of norms around 1: `count_between` two bounds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

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
def count_by_size(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """The entries of each tensor in each bucket, shape (tensors, NUM_BUCKETS), float64 on their device. Nothing is
    copied to the host."""
    return torch.stack([_count(tensor, _bucket_of_size, NUM_BUCKETS) for tensor in tensors])


@torch.no_grad()
def bounds_of(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """The smallest entry of each tensor, negative, and the largest, shape (2, tensors), float64 on their device: of
    shards the largest are those of the whole. Minus infinity of a tensor without entries."""
    nothing = torch.full((2,), -torch.inf, dtype=torch.float64, device=tensors[0].device)
    both = [torch.stack([-one.amin(), one.amax()]).double() if one.numel() else nothing for one in tensors]
    return torch.stack(both, dim=1)


@torch.no_grad()
def count_between(tensors: Sequence[torch.Tensor], bounds: torch.Tensor) -> torch.Tensor:
    """The entries of each tensor in NUM_SHOWN buckets of one width between its bounds, which are those of `bounds_of`,
    shape (tensors, NUM_SHOWN), float64 on their device. Nothing is copied to the host."""

    def bucket_between(low: torch.Tensor, high: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
        scale = NUM_SHOWN / (high - low).clamp(min=torch.finfo(torch.float32).tiny)
        return lambda values: ((values.double() - low) * scale).clamp(0, NUM_SHOWN - 1).short()

    counts = [
        _count(tensor, bucket_between(low, high), NUM_SHOWN)
        for tensor, low, high in zip(tensors, -bounds[0], bounds[1], strict=True)
    ]
    return torch.stack(counts)


def _count(tensor: torch.Tensor, bucket_of: Callable[[torch.Tensor], torch.Tensor], num_buckets: int) -> torch.Tensor:
    """By sorting: deterministic algorithms refuse on a GPU what adds up in any order."""
    edges = torch.arange(num_buckets + 1, dtype=torch.int16, device=tensor.device)
    counts = torch.zeros(num_buckets, dtype=torch.float64, device=tensor.device)
    for part in tensor.reshape(-1).split(MOST_AT_ONCE):
        counts += torch.searchsorted(bucket_of(part).sort().values, edges).diff()
    return counts


def _bucket_of_size(values: torch.Tensor) -> torch.Tensor:
    """The number of each value's bucket: the first bits of a float32 grow with its size."""
    bits = values.float().view(torch.int32)
    size = (bits & 0x7FFFFFFF).bitwise_right_shift_(PART_BITS)
    size.sub_((EXPONENT_BIAS + FIRST) * PARTS - 1).clamp_(0, PER_SIDE)
    return torch.where(bits < 0, PER_SIDE - size, PER_SIDE + size).short()


def buckets_between(low: float, high: float, counts: Sequence[float]) -> Buckets:
    """The counts of `count_between` of one tensor; empty where the bounds are not finite. Equal entries are in the
    middle of one bucket of the width 1, as TensorBoard itself has it."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return []
    if low == high:
        return [(low - 0.5, high + 0.5, sum(counts))]
    edges = [low + (high - low) * place / NUM_SHOWN for place in range(NUM_SHOWN)] + [high]
    return list(zip(edges, edges[1:], counts, strict=False))


def buckets_by_size(counts: Sequence[float]) -> Buckets:
    """The counts of `count_by_size` of one tensor between its outermost entries, narrow buckets put together; empty of
    no entries."""
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
