"""The weights that become the artifact."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from transformers import PreTrainedModel

from pipeline.errors import StorageError
from pipeline.modeling.materialize import allocate
from pipeline.modeling.sharding import is_sharded
from pipeline.training.checkpointing.checkpoints import checkpoint_of, problem_of
from pipeline.training.checkpointing.counters import Counters
from pipeline.training.checkpointing.training_state_dict import restore_weights
from pipeline.training.train_config import TrainConfig


def exported_model(
    config: TrainConfig, trained: PreTrainedModel, counters: Counters, work: Path, build: Callable[[], PreTrainedModel]
) -> tuple[PreTrainedModel, int]:
    """The model with the weights that `train.export` asks for, and the step that they are of.

    Process 0 alone calls it, after the last step, so averaged weights and those of a sharded model come from the last
    checkpoint, the latter into a model that `build` makes. Raises StorageError when the checkpoint that holds them is
    broken.
    """
    step = counters.best_step if config.export == "best" else counters.step
    if step == counters.step and not is_sharded(trained) and config.export != "ema":
        return trained, step
    problem = "it is gone" if step is None else problem_of(checkpoint_of(work, step))
    if step is None or problem is not None:
        raise StorageError(f"{work}: the checkpoint of the weights to export is broken ({problem}); --force train")
    model = trained
    if is_sharded(trained):
        model = build()
        if model.device.type == "meta":
            allocate(model, "cpu")
    restore_weights(checkpoint_of(work, step), model, averaged=config.export == "ema")
    return model, step
