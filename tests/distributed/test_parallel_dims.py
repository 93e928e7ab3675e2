"""What the launcher asked for becomes a mesh, whose processes share out batches and hold parts of the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from training.tiny import in_processes

from pipeline.distributed.parallel_dims import ParallelDims
from pipeline.errors import ConfigError

FSDP = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}


def launched(world_size: int, rank: int = 0, **others: str) -> dict[str, str]:
    return {"WORLD_SIZE": str(world_size), "RANK": str(rank), **others}


def mesh_of(**sizes: int) -> dict[str, str]:
    named = {f"PARALLELISM_CONFIG_{name.upper()}_SIZE": str(size) for name, size in sizes.items()}
    return {**FSDP, "ACCELERATE_USE_PARALLELISM_CONFIG": "true", **named}


@pytest.mark.parametrize(
    ("environ", "replicate", "shard", "is_first_copy"),
    [
        ({}, 1, 1, True),
        (FSDP, 1, 1, True),  # one process has nobody to share a model with
        (launched(4, 3), 4, 1, False),
        (launched(4, 3, **FSDP), 1, 4, True),
        (launched(6, 1, **mesh_of(dp_replicate=3, dp_shard=2)), 3, 2, True),
        (launched(6, 2, **mesh_of(dp_replicate=3, dp_shard=2)), 3, 2, False),
        (launched(4, 1, **mesh_of(dp_replicate=1, dp_shard=4, tp=1)), 1, 4, True),
    ],
)
def test_a_mesh_is_what_the_launcher_asked_for(environ, replicate, shard, is_first_copy):
    dims = ParallelDims.from_environment(environ)
    assert (dims.replicate, dims.shard, dims.is_first_copy) == (replicate, shard, is_first_copy)
    assert (dims.world_size, dims.dp_world_size) == (replicate * shard, replicate * shard)
    assert dims.rank == dims.dp_rank == int(environ.get("RANK", "0"))
    assert dims.is_sharded == (shard > 1)


@pytest.mark.parametrize(
    ("sizes", "problem"),
    [
        ({"dp_shard": 4, "cp": 2}, "context parallelism, which is not supported"),
        ({"dp_replicate": 2, "dp_shard": 3}, "2 x dp_shard_size 3, but started 4 processes"),
    ],
)
def test_a_mesh_that_cannot_be_is_refused(sizes: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        ParallelDims.from_environment(launched(4, **mesh_of(**sizes)))


def save_sums(rank: int, folder: Path) -> None:
    """What each of four ranks finds when it sums all ranks along each dimension of a 2 x 2 mesh."""
    mesh = ParallelDims(replicate=2, shard=2, rank=rank).mesh("cpu")
    sums = {}
    for name in ("replicate", "shard"):
        sums[name] = torch.tensor(rank)
        torch.distributed.all_reduce(sums[name], group=mesh.get_group(name))
    torch.save(sums, folder / f"{rank}.pt")


def test_ranks_count_through_the_shards_of_one_copy_first(tmp_path):
    assert in_processes(4, save_sums, tmp_path) == [0] * 4
    found = [torch.load(tmp_path / f"{rank}.pt") for rank in range(4)]
    assert [int(sums["shard"]) for sums in found] == [0 + 1, 0 + 1, 2 + 3, 2 + 3]
    assert [int(sums["replicate"]) for sums in found] == [0 + 2, 1 + 3, 0 + 2, 1 + 3]
