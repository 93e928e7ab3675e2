"""What a training needs before its first step: an accelerator, determinism, sizes that fit, compiled layers."""

from __future__ import annotations

import os
import platform
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from accelerate.utils import (
    DistributedDataParallelKwargs,
    FullyShardedDataParallelPlugin,
    GradientAccumulationPlugin,
    InitProcessGroupKwargs,
)
from torch import nn
from torch.distributed.fsdp import CPUOffloadPolicy
from torch.nn.parallel import DistributedDataParallel
from transformers import PreTrainedModel

from pipeline.errors import ConfigError
from pipeline.machine import num_cores, wants_cpu
from pipeline.modeling.architecture_settings import one_line
from pipeline.modeling.experts import cast_experts
from pipeline.modeling.inputs import model_inputs
from pipeline.modeling.parameters import blocks
from pipeline.modeling.sharding import is_sharded, shard
from pipeline.training import schedules
from pipeline.training.batches import GlobalBatch, TrainingSplit
from pipeline.training.objective import no_targets, objective
from pipeline.training.optimizers import build_optimizer
from pipeline.training.precision import check_precision
from pipeline.training.sparsity import freeze
from pipeline.training.train_config import TrainConfig


def make_accelerator(
    config: TrainConfig, chosen: Mapping[str, Any], work: Path, say: Callable[[str], None]
) -> Accelerator:
    """An Accelerator for the section's precision that logs to TensorBoard below `work`, joined with the launcher's
    other processes. Process 0 says what is slow of a precision that was asked for.

    Raises ConfigError for a topology in which Accelerate would do something else without a word, and for a device that
    is not what the precision was chosen for.
    """
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    # Else transformers, wherever it reads weights, reads none in all processes but the first.
    os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"
    # One process on a GPU has nobody to share a model with, yet Accelerate would prepare it for that.
    os.environ["ACCELERATE_USE_FSDP"] = str(wants_sharding()).lower()
    assert config.mixed_precision != "auto", "what it comes to is chosen before"
    if config.mixed_precision == "fp16" and _is_on_cpu():
        raise ConfigError("train.mixed_precision: fp16 needs a CUDA device, and this training has none; use bf16 or no")
    handlers: list[Any] = [DistributedDataParallelKwargs(broadcast_buffers=False, gradient_as_bucket_view=True)]
    if config.hang_timeout_seconds is not None:
        # Later than the watchdog, which tells where each process is; the backend only ends them.
        handlers.append(InitProcessGroupKwargs(timeout=timedelta(seconds=config.hang_timeout_seconds + 120)))
    accelerator = Accelerator(
        mixed_precision=config.mixed_precision,
        # Losses are normalized by the tokens of the global batch, so Accelerate must not divide as well.
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
        # Where there is no GPU, Accelerate trains in each process by itself unless it is told so.
        cpu=launched > 1 and not torch.cuda.is_available(),
        # Buffers of these models never change; gradients need no second copy.
        kwargs_handlers=handlers,
        log_with="tensorboard",
        project_dir=str(work),
    )
    assert accelerator.num_processes == launched, "Accelerate joined other processes than the launcher's"
    check_precision(config, chosen, accelerator.device, say if accelerator.is_main_process else None)
    return accelerator


def _is_on_cpu() -> bool:
    return not torch.cuda.is_available() or wants_cpu(os.environ)


def join(
    config: TrainConfig,
    accelerator: Accelerator,
    model: PreTrainedModel,
    give_weights: Callable[[PreTrainedModel, torch.device], None],
) -> tuple[nn.Module, AcceleratedOptimizer]:
    """The model on the device, in the precision asked for and tied to the other processes, and its optimizer.

    DistributedDataParallel averages gradients over processes; where the launcher asks for FSDP, each holds a part of
    the model. `give_weights(model, device)` completes the weights once they are where they will stay.
    """
    device = accelerator.device
    if wants_sharding():
        # Not by Accelerate's `prepare`, which wants all weights first and cuts stacks of experts by experts alone.
        plugin = FullyShardedDataParallelPlugin()
        home = torch.device("cpu") if isinstance(plugin.cpu_offload, CPUOffloadPolicy) else device
        shard(
            model,
            device,
            {"bf16": torch.bfloat16, "fp16": torch.float16}.get(config.mixed_precision),
            plugin.cpu_offload,
            reshard_after_forward=plugin.reshard_after_forward,
        )
        give_weights(model, home)
        return model, accelerator.prepare_optimizer(build_optimizer(config, model, home))
    give_weights(model, device)
    with warnings.catch_warnings():
        # The new name of this option is not among Accelerate's yet.
        warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
        return accelerator.prepare(model, build_optimizer(config, model, device))


def wants_sharding() -> bool:
    """Whether the launcher asks for FSDP and started several processes."""
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    return several and os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"


def without_averaging(accelerator: Accelerator, network: nn.Module) -> AbstractContextManager[None]:
    """Let gradients of a backward pass add up in this process alone, if it has room for them: gradients of a sharded
    model are shared out at once."""
    return nullcontext() if is_sharded(network) else accelerator.no_sync(network)


def settle_buckets(config: TrainConfig, accelerator: Accelerator, network: nn.Module, batch: GlobalBatch) -> None:
    """Let DistributedDataParallel lay out its buckets of gradients for good, by a backward pass without targets.

    It does so after its first pass, by the order in which gradients came; from three processes on, the layout decides
    in which order they are added up, so a resumed run must not begin with another one. Draws random numbers.
    """
    if not isinstance(network, DistributedDataParallel):
        return
    part = batch.device_batches[0]
    output = network(**model_inputs(part))
    accelerator.backward(objective(output, no_targets(part["labels"]), config).total)
    network.zero_grad(set_to_none=True)


def num_steps(config: TrainConfig, split: TrainingSplit) -> int:
    """Optimizer steps of the run. Raises ConfigError when they are fewer than those of the schedule's phases."""
    steps = schedules.num_steps(config, len(split), split.target_tokens)
    schedules.check_phases(config, steps)
    return steps


def idle_cores() -> str | None:
    """A hint for people when training on the CPU leaves cores idle, as under a launcher that sets one thread."""
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    cores, threads = num_cores(), torch.get_num_threads()
    if torch.cuda.is_available() or threads >= cores // processes:
        return None
    used, could = threads * processes, cores // processes
    return f"using {used} of {cores} cores; set OMP_NUM_THREADS={could} to use all (launchers set 1)"


def check_context(block_size: int, context: int | None) -> None:
    """Raises ConfigError when sequences are longer than the model's positions."""
    if context is not None and block_size > context:
        raise ConfigError(
            f"pack.block_size {block_size} is more than the model's {context} positions; lower it, or raise "
            "max_position_embeddings (n_positions in gpt2) in model.config"
        )


def prepare_layers(config: TrainConfig, model: PreTrainedModel) -> None:
    """Freeze parameters, let experts compute in the precision asked for, choose the attention, and turn on gradient
    checkpointing and compilation. Blocks are compiled in place and one by one: the names of parameters stay, and equal
    blocks share one compilation."""
    freeze(model, config.freeze)
    if config.mixed_precision != "no":
        cast_experts(model)
    if config.attn_implementation is not None:
        _set_attention(model, config.attn_implementation)
    if config.gradient_checkpointing:
        if not model.supports_gradient_checkpointing:
            raise ConfigError(f"train.gradient_checkpointing: {model.config.model_type} does not support it; remove it")
        model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    if config.torch_compile:
        for block in blocks(model).values():
            block.compile()


def _set_attention(model: PreTrainedModel, name: str) -> None:
    if name != "eager" and name != "sdpa" and _is_on_cpu():
        raise ConfigError(f"train.attn_implementation: {name} needs a GPU to train; take eager or sdpa, or remove it")
    try:
        model.set_attn_implementation(name)
    except (ValueError, ImportError) as error:
        reason = one_line(error)
        raise ConfigError(f"train.attn_implementation: {model.config.model_type} cannot use {name}: {reason}") from None


def numerics_of(config: TrainConfig, device: torch.device, num_processes: int) -> dict[str, Any]:
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
        "num_processes": num_processes,
        "sharded": wants_sharding(),
        "device_batch": config.device_batch_size(num_processes),
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
