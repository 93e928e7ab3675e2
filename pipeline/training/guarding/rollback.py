"""Going back before a spike of the loss."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.training.checkpointing.checkpoints import list_checkpoints, problem_of, step_of
from pipeline.training.checkpointing.training_state_dict import restore_learned

if TYPE_CHECKING:
    from pipeline.training.train_state import TrainState


def roll_back(work: Path, state: TrainState, save_steps: int) -> int | None:
    """Put weights and optimizer of the newest whole checkpoint back; returns its step, or None where there is none.

    Everything else goes on from where it is: step, records and data, so that the batches since the checkpoint are left
    behind, as Chowdhery et al. (2022, "PaLM", section 5.1) did past spikes of the loss. Only the checkpoints of every
    `save_steps` count, and not those of a signal or of the clock, so that a stopped training does the same.
    """
    chosen: Path | None = None
    if state.processes.is_main:
        regular = [path for path in list_checkpoints(work) if step_of(path) % save_steps == 0]
        chosen = next((path for path in reversed(regular) if problem_of(path) is None), None)
    checkpoint: Path | None = state.processes.broadcast(chosen)
    if checkpoint is None:
        return None
    restore_learned(checkpoint, state)
    return step_of(checkpoint)
