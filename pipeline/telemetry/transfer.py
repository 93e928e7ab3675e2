"""Figures that go from the device to the host together."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch


def to_host(tensors: Sequence[torch.Tensor]) -> list[list[float]]:
    """The values of tensors of one dimension, in one copy: each waits for all the work that is queued on the device."""
    device = tensors[0].device
    values: list[float] = torch.cat([tensor.to(device) for tensor in tensors]).tolist()
    ends = [0]
    for tensor in tensors:
        ends.append(ends[-1] + tensor.numel())
    return [values[start:end] for start, end in pairwise(ends)]
