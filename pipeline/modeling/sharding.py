"""Tensors that FSDP2 shares out among processes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import distributed, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor put together from its shards; where it is sharded all processes call this."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def own_parts(tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """This process's shard of each tensor; a tensor that is not sharded as it is."""
    return [tensor.to_local() if isinstance(tensor, DTensor) else tensor for tensor in tensors]


def sum_over_shards(sums: torch.Tensor, tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """What each process summed over its `own_parts` of tensors, either all sharded over one mesh or none, summed over
    the processes."""
    meshes = {tensor.device_mesh for tensor in tensors if isinstance(tensor, DTensor)}
    for mesh in meshes:
        distributed.all_reduce(sums, group=mesh.get_group())
    return sums


def reshard(model: nn.Module) -> None:
    """Let each process hold its shards alone again: a forward pass without a backward one leaves the outermost
    parameters whole, and no longer sharded tensors to whoever looks at them."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()
