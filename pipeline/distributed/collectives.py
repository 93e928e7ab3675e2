"""The processes that work on one model together, and their collectives."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import islice
from typing import Any, TypeVar

import torch
from torch import distributed
from torch._C._distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from pipeline.distributed.parallel_dims import ParallelDims
from pipeline.errors import LostPeerError

Item = TypeVar("Item")
Result = TypeVar("Result")

PATIENCE = timedelta(days=7)
"""How long processes wait for one that works alone. That it lives is the launch's to watch."""

_LOST = re.compile(r"gloo|nccl|connection (closed|reset|refused)|broken pipe|peer", re.IGNORECASE)


class Collectives:
    """Communication among all processes of a mesh; this one has the rank `rank`. Every method but `connection_errors`
    is a collective: all processes call it at the same point. With one process none of them communicates."""

    def __init__(self, dims: ParallelDims, device: torch.device) -> None:
        self.dims, self.rank, self.world_size = dims, dims.rank, dims.world_size
        self.is_main = self.rank == 0
        # Small values are reduced on the host: through the device they would wait for all work queued there.
        self._host: Any = None
        if self.world_size > 1 and device.type != "cpu":
            self._host = distributed.new_group(backend="gloo")

    def all_reduce_max(self, *values: int) -> list[int]:
        """All-reduce each value with MAX. So a signal or wish of one process reaches all."""
        if self.world_size == 1:
            return list(values)
        largest = torch.tensor(values, dtype=torch.int64)
        distributed.all_reduce(largest, distributed.ReduceOp.MAX, group=self._host)
        return largest.tolist()

    def all_reduce_sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """The sum over all processes of a tensor on the device, the same in each of them."""
        if self.world_size == 1:
            return tensor
        total = tensor.clone()
        distributed.all_reduce(total)
        return total

    def all_reduce_largest(self, tensor: torch.Tensor) -> torch.Tensor:
        """The largest over all processes of each value of a tensor on the device, the same in each of them."""
        if self.world_size == 1:
            return tensor
        largest = tensor.clone()
        distributed.all_reduce(largest, distributed.ReduceOp.MAX)
        return largest

    def all_gather(self, value: Any) -> list[Any]:
        """Every process's value, by rank, in each of them; for small values on the host."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        distributed.all_gather_object(values, value, group=self._host)
        return values

    def broadcast(self, value: Any) -> Any:
        """Process 0's value, in all processes; for small values on the host."""
        return self.all_gather(value)[0]

    def in_turns(self, items: Iterable[Item], work: Callable[[Item], Result]) -> Iterator[Result]:
        """What `work` makes of each item, in their order and in every process. Each process works on some of them, all
        equally often, as sharded models need; results are small and on the host."""
        rest = iter(items)
        while group := list(islice(rest, self.world_size)):
            found = self.all_gather(work(group[min(self.rank, len(group) - 1)]))
            yield from found[: len(group)]

    def barrier(self) -> None:
        """Go on when all have come here. An error in one must not pass through it: the others would wait."""
        if self.world_size > 1:
            distributed.barrier(group=self._host)

    @contextmanager
    def waiting_for_main(self) -> Iterator[None]:
        """Let process 0 work alone in the block, however long that takes, while the others wait at its end."""
        group = distributed.new_group(backend="gloo", timeout=PATIENCE) if self.world_size > 1 else None
        yield
        if group is not None:
            distributed.barrier(group=group)

    @contextmanager
    def connection_errors(self) -> Iterator[None]:
        """Turn the backend's error about a closed connection into LostPeerError. The process that ended first reports
        the cause."""
        try:
            yield
        except RuntimeError as error:
            if self.world_size == 1 or not _LOST.search(str(error)):
                raise
            raise LostPeerError(
                f"process {self.rank} lost another of the {self.world_size} processes of this launch; the message of "
                "the one that ended first says why"
            ) from error


ALONE = Collectives(ParallelDims(), torch.device("cpu"))
"""One process."""


@contextmanager
def joined(name: str, device: torch.device) -> Iterator[Collectives]:
    """The processes of the launch, joined under a name of their own while the block runs. `device` is where this one
    computes. The launch reports one that ends, so none has to answer within a time.

    Raises LostPeerError when another one has ended.
    """
    dims = ParallelDims.from_environment(os.environ)
    if dims.world_size > 1 and not distributed.is_initialized():
        # The launcher's store may still hold the addresses of those that were joined before.
        store, *_ = next(rendezvous("env://", dims.rank, dims.world_size))
        backend = "nccl" if device.type == "cuda" else "gloo"
        store = PrefixStore(name, store)
        distributed.init_process_group(
            backend, store=store, rank=dims.rank, world_size=dims.world_size, timeout=PATIENCE
        )
    processes = Collectives(dims, device)
    with processes.connection_errors():
        yield processes
    destroy_process_group()


def destroy_process_group() -> None:
    """Leave the other processes after the last collective, so that one that ends early is no lost peer."""
    if distributed.is_initialized():
        distributed.destroy_process_group()
