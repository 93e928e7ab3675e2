"""Random numbers for parameters: a pure function of (seed, parameter name, position), for any sharding.

A parameter's numbers, in the row-major order of the whole tensor, are drawn in runs of CHUNK, each from a generator
of its own. A shard therefore costs no more than the runs that it touches.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence

import torch
from torch.distributed.tensor import DTensor
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

CHUNK = 2**20
Sample = Callable[[int, torch.Generator], torch.Tensor]
Region = tuple[slice, ...]
"""A rectangular part of a tensor, a slice for each dimension."""


def seed_of(seed: int, name: str, run: int = 0) -> int:
    """A generator's seed for a run of a parameter's numbers."""
    digest = hashlib.sha256(f"{seed}:{name}:{run}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def draw(seed: int, name: str, shape: Sequence[int], region: Region, sample: Sample) -> torch.Tensor:
    """`region` of the tensor of `shape` that `sample(count, generator)` fills in float32 on the CPU."""
    inner = math.prod(shape[1:])
    start, stop = region[0].start * inner, region[0].stop * inner
    numel = shape[0] * inner
    out = torch.empty(stop - start)
    for run in range(start // CHUNK, -(-stop // CHUNK)):
        first = run * CHUNK
        generator = torch.Generator().manual_seed(seed_of(seed, name, run))
        # Always whole: the kernels give other numbers for other counts.
        values = sample(min(CHUNK, numel - first), generator)
        low, high = max(start, first), min(stop, first + len(values))
        out[low - start : high - start] = values[low - first : high - first]
    rows = out.view(region[0].stop - region[0].start, *shape[1:])
    return rows[(slice(None), *region[1:])]


def local_part(tensor: torch.Tensor) -> tuple[torch.Tensor, Region]:
    """The part of a parameter that this process holds, and where it lies in the whole."""
    if isinstance(tensor, DTensor):
        local = tensor.to_local()
        _, offset = compute_local_shape_and_global_offset(tensor.shape, tensor.device_mesh, tensor.placements)
    else:
        local, offset = tensor, (0,) * tensor.ndim
    return local, tuple(slice(begin, begin + size) for begin, size in zip(offset, local.shape, strict=True))


def normal(std: float) -> Sample:
    """Normal with mean 0."""
    return lambda count, generator: torch.randn(count, generator=generator).mul_(std)


def uniform(std: float) -> Sample:
    """Uniform around 0 with this standard deviation."""
    bound = math.sqrt(3) * std
    return lambda count, generator: torch.rand(count, generator=generator).mul_(2 * bound).sub_(bound)


def truncated_normal(std: float, cut: float) -> Sample:
    """Normal with mean 0, drawn within `cut` times `std`, by the inverse of its distribution function."""
    edge = math.erf(cut / math.sqrt(2))

    def sample(count: int, generator: torch.Generator) -> torch.Tensor:
        values = torch.rand(count, generator=generator).mul_(2 * edge).sub_(edge).erfinv_()
        return values.mul_(math.sqrt(2) * std).clamp_(-cut * std, cut * std)

    return sample
