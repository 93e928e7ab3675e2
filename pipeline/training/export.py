"""The weights that become the artifact."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from pipeline.distributed.collectives import Collectives
from pipeline.errors import StorageError
from pipeline.modeling.export_check import check_export, expected_logits
from pipeline.modeling.materialize import allocate, open_empty
from pipeline.modeling.open_and_export import save_sharded
from pipeline.modeling.sharding import is_sharded, shard
from pipeline.training.checkpointing.checkpoints import checkpoint_of, problem_of
from pipeline.training.checkpointing.counters import Counters
from pipeline.training.checkpointing.training_state_dict import restore_weights, stored_weights
from pipeline.training.train_config import TrainConfig


def exported_model(
    config: TrainConfig, trained: PreTrainedModel, counters: Counters, work: Path, build: Callable[[], PreTrainedModel]
) -> tuple[PreTrainedModel, int]:
    """The model with the weights that `train.export` asks for, and the step that they are of.

    Process 0 alone calls it, after the last step. Averaged weights, and the weights of a sharded model, are read from
    the last checkpoint; for a sharded model `build` makes an empty one first. Raises StorageError if the checkpoint is
    broken.
    """
    step = _exported_step(config, counters)
    if step == counters.step and not is_sharded(trained) and config.export != "ema":
        return trained, step
    step = _intact(work, step, _problem(work, step))
    model = trained
    if is_sharded(trained):
        model = build()
        if model.device.type == "meta":
            allocate(model, "cpu")
    restore_weights(checkpoint_of(work, step), model, averaged=config.export == "ema")
    return model, step


def export_sharded(
    config: TrainConfig,
    counters: Counters,
    work: Path,
    artifact: Path,
    output: Path,
    processes: Collectives,
    device_type: str,
) -> tuple[int, dict[str, Any]]:
    """Write `output/model` of process 0 with the weights that `train.export` asks for, from the checkpoint that holds
    them. Returns their step and what `check_export` found.

    All processes call it; none holds more than its part and a block. The model stage's `artifact` has no adapter.
    Raises StorageError when the checkpoint is broken, and ExportError as `check_export`.
    """
    step, is_averaged = _exported_step(config, counters), config.export == "ema"
    with processes.waiting_for_main():
        problem = _problem(work, step) if processes.is_main else None
    step = _intact(work, step, processes.broadcast(problem))
    mesh = processes.dims.mesh(device_type)
    model = open_empty(artifact / "model")
    allocate(model, shard(model, mesh, None, is_trained=False))
    restore_weights(checkpoint_of(work, step), model, averaged=is_averaged)
    expected = expected_logits(model)
    del model
    gc.collect()  # FSDP's parts refer to each other
    with processes.waiting_for_main():
        if processes.is_main:
            save_sharded(stored_weights(checkpoint_of(work, step), averaged=is_averaged), artifact, output)
    folder = Path(processes.broadcast(str(output))) / "model"
    return step, check_export(folder, expected, is_merged=False, mesh=mesh)


def _exported_step(config: TrainConfig, counters: Counters) -> int | None:
    return counters.best_step if config.export == "best" else counters.step


def _problem(work: Path, step: int | None) -> str | None:
    return "it is gone" if step is None else problem_of(checkpoint_of(work, step))


def _intact(work: Path, step: int | None, problem: str | None) -> int:
    if step is None or problem is not None:
        raise StorageError(f"{work}: the checkpoint of the weights to export is broken ({problem}); --force train")
    return step
