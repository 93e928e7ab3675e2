"""Build the train state: model and optimizer on the device, data order, checkpoints, log, guard."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from pipeline.distributed.collectives import Collectives
from pipeline.distributed.parallel_dims import ParallelDims
from pipeline.errors import ConfigError
from pipeline.modeling.experts import cast_experts
from pipeline.modeling.library_messages import one_line
from pipeline.modeling.parameters import blocks
from pipeline.progress import Progress
from pipeline.tasks import Split, Task
from pipeline.telemetry.input_rows import InputRows
from pipeline.telemetry.matrix_statistics import MatrixStatistics
from pipeline.telemetry.model_probe import ModelProbe, probe_rows
from pipeline.tokens.mixing import Epoch
from pipeline.training.accelerator import is_on_cpu, make_accelerator, prepare
from pipeline.training.batches import GlobalBatches
from pipeline.training.checkpointing.checkpoints import CheckpointWriter
from pipeline.training.data_order import order_of
from pipeline.training.due import Due
from pipeline.training.guarding.autopsy import Autopsy
from pipeline.training.guarding.guards import Guard
from pipeline.training.guarding.signal_handlers import Interrupts
from pipeline.training.guarding.watchdog import Watchdog
from pipeline.training.numerics import numerics_of
from pipeline.training.optimization.clipping import Clipping
from pipeline.training.optimization.optimizers import family_of
from pipeline.training.optimization.schedules import check_phases, num_steps
from pipeline.training.optimization.sparsity import freeze
from pipeline.training.optimization.weight_average import WeightAverage
from pipeline.training.recording.health_facts import health_facts
from pipeline.training.recording.metrics_log import MetricsLog
from pipeline.training.recording.peak_flops import peak_of
from pipeline.training.recording.running_sums import RunningSums
from pipeline.training.recording.throughput import Meter
from pipeline.training.recording.trackers import RunLabel
from pipeline.training.routing import Routing
from pipeline.training.train_config import TrainConfig
from pipeline.training.train_state import TrainState


def build(
    config: TrainConfig,
    model: PreTrainedModel,
    task: Task,
    train_split: Split,
    validation_split: Split,
    mixture: Mapping[str, Any] | None = None,
    *,
    give_weights: Callable[[PreTrainedModel, torch.device], None],
    seed: int,
    chosen: Mapping[str, Any],
    work: Path,
    progress: Progress,
    fail: Callable[[BaseException], None],
    label: RunLabel,
    artifact: Path | None = None,
) -> TrainState:
    """The state of a training before its first step, and what works on it.

    `give_weights(model, device)` completes the model's weights where they will stay. `chosen` are settings that were
    `auto`. `mixture` is what pack.json says of one. `work`, which the processes share, keeps checkpoints and records
    under the `label`. `fail(error)` writes the error of a process that hangs into run.json. `artifact` is that of the
    model stage; without it there are neither verdicts on the text nor anatomies.

    Raises ConfigError if the schedule's phases are longer than the training.
    """
    epoch = Epoch.of(train_split, mixture)
    max_steps = num_steps(config, epoch.windows, epoch.target_tokens)
    check_phases(config, max_steps)
    dims = ParallelDims.from_environment(os.environ)
    accelerator = make_accelerator(config, dims, chosen, progress.say)
    processes, device = Collectives(dims, accelerator.device), accelerator.device
    batches = GlobalBatches(train_split, order_of(epoch, seed), config, device, dims.dp_rank, dims.dp_world_size)
    peak = peak_of(device, config.mixed_precision)
    facts = None
    tokenizer_file = None if artifact is None else artifact / "model" / "tokenizer.json"
    if processes.is_main:
        facts = health_facts(config, model.config, task, train_split, validation_split, epoch, label, tokenizer_file)

    prepare_layers(config, model)
    wrapped, optimizer = prepare(config, accelerator, dims, model, give_weights)
    family = family_of(config.optim)
    decays = (partial(one, config.optim) for one in (family.decoupled_decay, family.coupled_decay))
    due = Due(config, max_steps)
    rows = probe_rows(validation_split, config.global_batch_size)
    state = TrainState(
        config=config,
        task=task,
        max_steps=max_steps,
        seed=seed,
        work=work,
        artifact=artifact,
        progress=progress,
        accelerator=accelerator,
        processes=processes,
        numerics=numerics_of(config, device, dims),
        train_split=train_split,
        epoch=epoch,
        validation_split=validation_split,
        tokenizer_file=tokenizer_file if tokenizer_file is not None and tokenizer_file.is_file() else None,
        batches=batches,
        model=wrapped,
        unwrapped_model=model,
        routing=Routing(config, task, model),
        loss_scaler=accelerator.scaler,
        clip_gradients=Clipping(config, device, wrapped),
        optimizer=optimizer,
        unwrapped_optimizer=optimizer.optimizer,
        matrix_statistics=MatrixStatistics(model, optimizer.optimizer, *decays),
        input_rows=InputRows(model, device),
        probe=ModelProbe(
            model,
            validation_split,
            rows,
            lambda output, batch: task.loss_sums(output, batch, config),
            processes,
            device,
            # Activations are recomputed for a lack of memory: then few rows at once.
            1 if config.gradient_checkpointing else config.micro_batch_size(dims.dp_world_size),
            recompute=config.gradient_checkpointing,
            warn=progress.say,
        ),
        ema=WeightAverage(model, config.ema_decay),
        meter=Meter(model, train_split.block_size, peak, device, dims.world_size),
        due=due,
        running_sums=RunningSums(config, device),
        log=MetricsLog(work, processes.is_main, due, label, progress.say, facts),
        checkpoints=CheckpointWriter(config, max_steps, work, dims.rank, dims.shard),
        interrupts=Interrupts(progress.say),
        watchdog=Watchdog(config.hang_timeout_seconds, wrapped, work, dims.rank, progress.say, fail),
    )
    autopsy = Autopsy(config, task, model, batches, processes, work)
    state.guard = Guard(config, state, autopsy, state.checkpoints, progress.say)
    return state


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
    if name != "eager" and name != "sdpa" and is_on_cpu():
        raise ConfigError(f"train.attn_implementation: {name} needs a GPU to train; take eager or sdpa, or remove it")
    try:
        model.set_attn_implementation(name)
    except (ValueError, ImportError) as error:
        reason = one_line(error)
        raise ConfigError(f"train.attn_implementation: {model.config.model_type} cannot use {name}: {reason}") from None
