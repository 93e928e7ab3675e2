"""Anatomies of a training under way, as records."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.errors import is_disk_full
from pipeline.modeling.sharding import is_sharded
from pipeline.telemetry.anatomy import MOST_RECORDED, write_anatomy
from pipeline.training.anatomies import subject_of_training
from pipeline.training.dissection import dissect

if TYPE_CHECKING:
    from pipeline.training.train_state import TrainState


def record_anatomy(state: TrainState) -> None:
    """Take the training apart on a copy and write `anatomy/step-N.json`, in process 0. It changes no state: weights and
    random states stay as they are.

    Large and sharded models have none: `descent anatomy` takes their checkpoints apart. No training ends for one that
    fails, but for a full disk.
    """
    model, step = state.unwrapped_model, state.counters.step
    if state.artifact is None or not state.processes.is_main or is_sharded(model):
        return
    if sum(parameter.numel() for parameter in model.parameters()) > MOST_RECORDED:
        return
    try:
        write_anatomy(state.work, dissect(subject_of_training(state, state.artifact)))
    except Exception as error:
        if is_disk_full(error):
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        state.progress.say(f"warning: step {step} has no anatomy: {reason[:300]}")
