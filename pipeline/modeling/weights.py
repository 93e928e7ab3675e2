"""A model's tensors by name, and tensors in safetensors files: whole, or in parts that several processes wrote."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn
from torch.distributed.tensor import DTensor

from pipeline.errors import StorageError, os_errno
from pipeline.modeling.seeded_weights import Region, local_part

PLACES = "places"
"""Key of a file's metadata: where its tensors lie in the wholes of which they are parts."""


def model_tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """Parameters and persistent buffers by name; a tied one only under its first name."""
    seen: set[int] = set()
    tensors = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            tensors[name] = tensor.detach()
    return tensors


def first_not_finite(tensors: Mapping[str, torch.Tensor]) -> str | None:
    """Name of the first tensor with a number that is infinite or NaN; allocates nothing of the tensors' size."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and tensor.numel() and not _is_finite(tensor.detach()):
            return name
    return None


def _is_finite(tensor: torch.Tensor) -> bool:
    # Both ends are NaN where one number is. For numbers of one byte there is no such function.
    return all(math.isfinite(end) for end in torch.aminmax(tensor.float() if tensor.element_size() == 1 else tensor))


@dataclass(frozen=True)
class TensorShard:
    """A copy on the host of what this process holds of a tensor, where it begins in the whole, and the whole's
    shape."""

    values: torch.Tensor
    offset: tuple[int, ...]
    shape: tuple[int, ...]


def own_part(tensor: torch.Tensor) -> TensorShard:
    """Copy this process's part of a tensor to the host."""
    local, region = local_part(tensor)
    copy = local.detach().to("cpu", copy=True).contiguous()
    return TensorShard(copy, tuple(cut.start for cut in region), tuple(tensor.shape))


def save_parts(parts: Mapping[str, TensorShard], path: Path) -> None:
    """Write tensors of which each process may hold a part. Raises OSError or StorageError."""
    places = {name: [part.offset, part.shape] for name, part in parts.items() if part.values.shape != part.shape}
    metadata = {PLACES: json.dumps(places)} if places else None
    with safetensors_errors(path.parent):
        save_file({name: part.values for name, part in parts.items()}, path, metadata)


@dataclass
class StoredTensor:
    """A tensor in files, of which nothing is in memory until it is read."""

    shape: torch.Size
    _parts: list[tuple[Any, str, Region]] = field(default_factory=list)

    def read(self, region: Region | None = None) -> torch.Tensor:
        """The part in `region`, put together from all files that hold some of it; the whole without one. Contiguous,
        as fused optimizers take for granted, and in memory of its own, so that the files can go."""
        region = tuple(slice(0, size) for size in self.shape) if region is None else region
        result: torch.Tensor | None = None
        for file, name, place in self._parts:
            if not region:
                return file.get_tensor(name).clone()
            common = [
                slice(max(cut.start, at.start), min(cut.stop, at.stop)) for cut, at in zip(region, place, strict=True)
            ]
            if any(cut.start >= cut.stop for cut in common):
                continue
            values = file.get_slice(name)[_seen_from(place, common)]
            if common == list(region):
                return values.clone(memory_format=torch.contiguous_format)
            if result is None:
                result = torch.empty([cut.stop - cut.start for cut in region], dtype=values.dtype)
            result[_seen_from(region, common)] = values
        return torch.empty([cut.stop - cut.start for cut in region]) if result is None else result


def _seen_from(outer: Region, inner: Sequence[slice]) -> Region:
    """Where a region lies in another one around it."""
    return tuple(slice(cut.start - at.start, cut.stop - at.start) for cut, at in zip(inner, outer, strict=True))


def read_lazily(paths: Sequence[Path]) -> dict[str, StoredTensor]:
    """The tensors of safetensors files by name."""
    found: dict[str, StoredTensor] = {}
    for path in paths:
        file = safe_open(path, "pt")
        places = json.loads((file.metadata() or {}).get(PLACES, "{}"))
        for name in file.keys():  # noqa: SIM118 (not a mapping)
            local = file.get_slice(name).get_shape()
            offset, shape = places.get(name, ([0] * len(local), local))
            place = tuple(slice(begin, begin + size) for begin, size in zip(offset, local, strict=True))
            found.setdefault(name, StoredTensor(torch.Size(shape)))._parts.append((file, name, place))
    return found


@torch.no_grad()
def copy_stored(tensor: torch.Tensor, stored: StoredTensor) -> None:
    """Read into a tensor; into this process's part if it is sharded."""
    assert stored.shape == tensor.shape, "the file is of another model"
    local, region = local_part(tensor)
    if local.numel():
        local.copy_(stored.read(region))


def is_cut(tensor: torch.Tensor) -> bool:
    """Whether processes hold different parts of a tensor."""
    return isinstance(tensor, DTensor) and any(placement.is_shard() for placement in tensor.placements)


@contextmanager
def safetensors_errors(path: Path) -> Iterator[None]:
    """Turn SafetensorError into OSError, as of a full disk, or StorageError."""
    try:
        yield
    except SafetensorError as error:
        if number := os_errno(error):
            raise OSError(number, os.strerror(number), str(path)) from None
        raise StorageError(f"{path}: {error}; mend it and run again to go on") from None
