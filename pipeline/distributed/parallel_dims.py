"""The device mesh: how the processes of a launch share out one model and its batches. Light at import."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.errors import ConfigError
from pipeline.machine import is_true

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

REPLICATE, SHARD = "replicate", "shard"
UNSUPPORTED = {"TP": "tensor", "CP": "context", "SP": "sequence"}


@dataclass(frozen=True)
class ParallelDims:
    """`replicate` copies of the model, each cut over `shard` processes; `rank` is this process's among all of them.

    1 x 1 is one process, N x 1 DistributedDataParallel, 1 x N FSDP, and N x M hybrid sharding. Ranks count through the
    shards of the first copy, then through those of the second.

    Every process computes sequences of its own, so all of them are data parallel (dp). Processes along a dimension
    `tensor` or `context` would work on the same sequences and share one `dp_rank`; a dimension `expert` would regroup
    the shards.
    """

    replicate: int = 1
    shard: int = 1
    rank: int = 0

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> ParallelDims:
        """The mesh that the launcher asked for: FSDP shards over all processes, or over `dp_shard_size` of them where
        accelerate was given a parallelism_config.

        Raises ConfigError for a dimension that is not supported and for sizes that do not multiply to the number of
        processes.
        """
        world_size, rank = int(environ.get("WORLD_SIZE", "1")), int(environ.get("RANK", "0"))
        replicate, shard = (1, world_size) if is_true(environ, "ACCELERATE_USE_FSDP") else (world_size, 1)
        if is_true(environ, "ACCELERATE_USE_PARALLELISM_CONFIG"):
            for name, dimension in UNSUPPORTED.items():
                if _size(environ, name) > 1:
                    raise ConfigError(
                        f"the launcher was given a parallelism_config with {dimension} parallelism, which is not "
                        "supported; take dp_replicate_size and dp_shard_size alone"
                    )
            replicate, shard = _size(environ, "DP_REPLICATE"), _size(environ, "DP_SHARD")
            if replicate * shard != world_size:
                raise ConfigError(
                    f"the launcher was given dp_replicate_size {replicate} x dp_shard_size {shard}, but started "
                    f"{world_size} processes; make their product the number of processes"
                )
        return cls(replicate, shard, rank)

    @property
    def world_size(self) -> int:
        """Number of processes."""
        return self.replicate * self.shard

    @property
    def dp_world_size(self) -> int:
        """Number of processes among which the sequences of a batch are shared out."""
        return self.replicate * self.shard

    @property
    def dp_rank(self) -> int:
        """Which share of a batch is this process's."""
        return self.rank

    @property
    def is_sharded(self) -> bool:
        """Whether a process holds only a part of the model."""
        return self.shard > 1

    @property
    def is_first_copy(self) -> bool:
        """Whether this process is of the first copy of the model, whose `shard` processes write checkpoints."""
        return self.rank < self.shard

    def mesh(self, device_type: str) -> DeviceMesh:
        """The mesh that FSDP cuts the model over: (replicate, shard), or (shard,) where there is one copy. All
        processes call it."""
        from torch.distributed.device_mesh import init_device_mesh

        if self.replicate == 1:
            return init_device_mesh(device_type, (self.shard,), mesh_dim_names=(SHARD,))
        return init_device_mesh(device_type, (self.replicate, self.shard), mesh_dim_names=(REPLICATE, SHARD))


def _size(environ: Mapping[str, str], name: str) -> int:
    return int(environ.get(f"PARALLELISM_CONFIG_{name}_SIZE", "1"))
