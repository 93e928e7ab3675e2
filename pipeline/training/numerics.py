"""What changes the last bits of the weights beside the configuration: library versions, device, threads, processes."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

import torch

from pipeline.distributed.parallel_dims import ParallelDims
from pipeline.training.train_config import TrainConfig


def numerics_of(config: TrainConfig, device: torch.device, dims: ParallelDims) -> dict[str, Any]:
    """What shapes the last bits of the weights beside the configuration's identity, to record and compare."""
    libraries = {name: version(name) for name in ("torch", "transformers", "accelerate", "numpy")}
    if device.type == "cuda":
        kind = torch.cuda.get_device_name(device)
    else:
        kind = f"{device.type} {platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    return {
        **libraries,
        "device": kind,
        "num_threads": torch.get_num_threads(),
        "num_processes": dims.world_size,
        "sharded": dims.is_sharded,
        **({"copies": dims.replicate} if dims.is_sharded and dims.replicate > 1 else {}),
        "device_batch": config.micro_batch_size(dims.dp_world_size),
        "deterministic": config.deterministic,
        "gradient_checkpointing": config.gradient_checkpointing,
        "attn_implementation": config.attn_implementation,
    }


@contextmanager
def deterministic_algorithms(enabled: bool) -> Iterator[None]:
    """Refuse algorithms whose results vary between runs, while the block runs."""
    settings: Any = torch.utils.deterministic
    before, fill = torch.are_deterministic_algorithms_enabled(), settings.fill_uninitialized_memory
    if enabled:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # Filling fresh memory finds reads of uninitialized values, not nondeterminism; it costs time.
    settings.fill_uninitialized_memory = False
    torch.use_deterministic_algorithms(enabled)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        settings.fill_uninitialized_memory = fill
