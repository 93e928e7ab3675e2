"""Models that FSDP2 shares out among processes, and their tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from accelerate.utils import FullyShardedDataParallelPlugin
from torch import distributed, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import CPUOffloadPolicy, FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, Shard

from pipeline.modeling.parameters import blocks
from pipeline.modeling.seeded_weights import local_part


def shard(model: nn.Module, mesh: DeviceMesh, computes_in: torch.dtype | None, *, is_trained: bool) -> torch.device:
    """Let each process hold a part of every parameter, and in training of its gradient and of the optimizer's state;
    the parameters of a block are put together, in `computes_in`, while it works (FSDP, Zhao et al. 2023, arXiv
    2304.11277). Parameters are cut along the last dimension of the mesh and copied along one before it.

    A model on the meta device stays there and takes no memory. Returns the device where its weights belong: the mesh's,
    or the CPU if the launcher was told to keep them there. In training the launcher also says whether blocks stay whole
    until the backward pass.
    """
    plugin = FullyShardedDataParallelPlugin()
    settings: dict[str, Any] = {
        "mesh": mesh,
        # Sums over many processes need more bits than bfloat16 has.
        "mp_policy": MixedPrecisionPolicy(param_dtype=computes_in, reduce_dtype=torch.float32),
        "offload_policy": plugin.cpu_offload,
        "shard_placement_fn": partial(_dimension, mesh.shape[-1]),
    }
    with keeping_marks(model):
        for block in blocks(model).values():
            fully_shard(block, reshard_after_forward=plugin.reshard_after_forward if is_trained else True, **settings)
        fully_shard(model, **settings)
    is_offloaded = isinstance(plugin.cpu_offload, CPUOffloadPolicy)
    return torch.device("cpu" if is_offloaded else mesh.device_type)


@contextmanager
def keeping_marks(model: nn.Module) -> Iterator[None]:
    """Let parameters that are replaced in the block pass their attributes on, such as whether an architecture wants
    them decayed."""
    marks = {name: dict(vars(parameter)) for name, parameter in model.named_parameters()}
    yield
    for name, parameter in model.named_parameters():
        vars(parameter).update(marks[name])


def is_sharded(model: nn.Module) -> bool:
    """Whether processes hold only parts of the model."""
    return isinstance(model, FSDPModule)


def _dimension(count: int, parameter: nn.Parameter) -> Shard | None:
    """Dimension along which a parameter is sharded: rows by default (None). For stacked experts, and for matrices with
    fewer rows than shards, the first dimension that divides evenly: otherwise some processes would hold nothing, which
    Muon cannot update."""
    if parameter.ndim < 3 and parameter.shape[0] >= count:
        return None
    return next((Shard(dim) for dim, size in enumerate(parameter.shape) if size % count == 0), None)


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor put together from its shards; where it is sharded all processes call this."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


@torch.no_grad()
def copy_part(tensor: torch.Tensor, complete: torch.Tensor) -> None:
    """Copy a whole tensor into one that is sharded, as far as this process holds it, or whole as well."""
    local, region = local_part(tensor)
    local.copy_(complete[region])


def spread(tensors: Mapping[str, torch.Tensor], load: Callable[[], Mapping[str, torch.Tensor]]) -> None:
    """Fill tensors, sharded or whole, from those of the same names that process 0 loads; one at a time is whole on
    every process's device."""
    source = load() if distributed.get_rank() == 0 else {}
    device = "cuda" if distributed.get_backend() == "nccl" else "cpu"
    for name, tensor in tensors.items():
        complete = torch.empty(tensor.shape, dtype=tensor.dtype, device=device)
        if source:
            complete.copy_(source[name])
        distributed.broadcast(complete, 0)
        copy_part(tensor, complete)


def own_parts(tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """This process's shard of each tensor; a tensor that is not sharded as it is."""
    return [tensor.to_local() if isinstance(tensor, DTensor) else tensor for tensor in tensors]


def sum_over_shards(sums: torch.Tensor, tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """All-reduce, over the processes that hold one copy of the model, what each summed over its `own_parts` of
    `tensors`. Either all tensors are sharded over one mesh, or none is and the sums stay as they are."""
    return _reduce_over_shards(sums, tensors, distributed.ReduceOp.SUM)


def largest_over_shards(largest: torch.Tensor, tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """The same with the largest of the values in the place of their sum."""
    return _reduce_over_shards(largest, tensors, distributed.ReduceOp.MAX)


def _reduce_over_shards(values: torch.Tensor, tensors: Sequence[torch.Tensor], operation: Any) -> torch.Tensor:
    meshes = {tensor.device_mesh for tensor in tensors if isinstance(tensor, DTensor)}
    for mesh in meshes:
        distributed.all_reduce(values, operation, group=mesh.get_group(mesh.ndim - 1))
    return values


def is_held_by_few(tensor: torch.Tensor) -> bool:
    """Whether a tensor is cut along a dimension that is too short for every process to hold some of it."""
    if not isinstance(tensor, DTensor):
        return False
    cuts = zip(tensor.placements, tensor.device_mesh.shape, strict=True)
    return any(isinstance(cut, Shard) and tensor.shape[cut.dim] < count for cut, count in cuts)


def reshard(model: nn.Module) -> None:
    """Let each process hold its shards alone again. A forward pass without a backward one leaves the outermost
    parameters whole, and they are no sharded tensors then."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()
