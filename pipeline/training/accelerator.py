"""Accelerate: the model and its optimizer on the device, in the precision asked for, tied to the other processes."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from accelerate.utils import (
    DistributedDataParallelKwargs,
    GradientAccumulationPlugin,
    InitProcessGroupKwargs,
    patch_environment,
)
from torch import nn
from transformers import PreTrainedModel

from pipeline.distributed.parallel_dims import ParallelDims
from pipeline.errors import ConfigError
from pipeline.machine import num_cores, wants_cpu
from pipeline.modeling.sharding import is_sharded, shard
from pipeline.training.optimization.parameter_groups import build_optimizer
from pipeline.training.precision import check_precision
from pipeline.training.train_config import TrainConfig


def make_accelerator(
    config: TrainConfig, dims: ParallelDims, chosen: Mapping[str, Any], say: Callable[[str], None]
) -> Accelerator:
    """An Accelerator in the precision of `config`, joined with the other ranks. Process 0 warns of a precision that is
    slow here.

    Raises ConfigError for a topology in which Accelerate would silently do something else, and for a device that the
    precision was not chosen for.
    """
    # Else transformers, wherever it reads weights, reads none in all processes but the first.
    os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"
    # One process on a GPU has nobody to share a model with, yet Accelerate would prepare it for that.
    os.environ["ACCELERATE_USE_FSDP"] = str(dims.is_sharded).lower()
    assert config.mixed_precision != "auto", "what it comes to is chosen before"
    if config.mixed_precision == "fp16" and is_on_cpu():
        raise ConfigError("train.mixed_precision: fp16 needs a CUDA device, and this training has none; use bf16 or no")
    handlers: list[Any] = [DistributedDataParallelKwargs(broadcast_buffers=False, gradient_as_bucket_view=True)]
    if config.hang_timeout_seconds is not None:
        # Later than the watchdog, which says where each process hangs; the backend only ends them.
        handlers.append(InitProcessGroupKwargs(timeout=timedelta(seconds=config.hang_timeout_seconds + 120)))
    # The mesh is ours (ParallelDims).
    with patch_environment(accelerate_use_parallelism_config="false"):
        accelerator = Accelerator(
            mixed_precision=config.mixed_precision,
            # Losses are normalized by the tokens of the global batch, so Accelerate must not divide as well.
            gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
            # Without it and without GPUs, Accelerate trains in each process by itself.
            cpu=dims.world_size > 1 and not torch.cuda.is_available(),
            # Buffers of these models never change; gradients need no second copy.
            kwargs_handlers=handlers,
        )
    assert accelerator.num_processes == dims.world_size, "Accelerate joined other processes than the launcher's"
    check_precision(config, chosen, accelerator.device, say if accelerator.is_main_process else None)
    return accelerator


def idle_cores() -> str | None:
    """A hint for people if training on the CPU leaves cores idle, as under a launcher that sets one thread."""
    processes, threads = int(os.environ.get("LOCAL_WORLD_SIZE", "1")), torch.get_num_threads()
    cores, could = num_cores(), num_cores() // processes
    if torch.cuda.is_available() or threads >= could:
        return None
    return f"using {threads * processes} of {cores} cores; set OMP_NUM_THREADS={could} to use all (launchers set 1)"


def is_on_cpu() -> bool:
    """Whether this process trains on the CPU."""
    return not torch.cuda.is_available() or wants_cpu(os.environ)


def prepare(
    config: TrainConfig,
    accelerator: Accelerator,
    dims: ParallelDims,
    model: PreTrainedModel,
    give_weights: Callable[[PreTrainedModel, torch.device], None],
) -> tuple[nn.Module, AcceleratedOptimizer]:
    """The model on the device, in training mode, in the precision asked for and tied to the other processes; and its
    optimizer.

    DistributedDataParallel averages gradients over processes; on a mesh that shards, each holds a part of the model.
    `give_weights(model, device)` completes the weights once they are where they will stay.
    """
    device = accelerator.device
    model.train()
    if dims.is_sharded:
        # Not by Accelerate's `prepare`, which wants all weights first and cuts stacks of experts by experts alone.
        computes_in = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(config.mixed_precision)
        home = shard(model, dims.mesh(device.type), computes_in, is_trained=True)
        give_weights(model, home)
        return model, accelerator.prepare_optimizer(build_optimizer(config, model, home))
    give_weights(model, device)
    with warnings.catch_warnings():
        # The new name of this option is not among Accelerate's yet.
        warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
        return accelerator.prepare(model, build_optimizer(config, model, device))


def no_sync(accelerator: Accelerator, model: nn.Module, *, enabled: bool) -> AbstractContextManager[None]:
    """Skip the all-reduce of gradients in this block. Sharded models always reduce: they have no room for whole
    gradients."""
    return accelerator.no_sync(model) if enabled and not is_sharded(model) else nullcontext()
