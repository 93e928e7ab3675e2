"""Going on from the newest valid checkpoint."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from pipeline.telemetry.anatomy import drop_anatomies
from pipeline.training.checkpointing.checkpoints import checkpoint_of, newest_valid, problem_of
from pipeline.training.checkpointing.counters import Counters
from pipeline.training.checkpointing.random_states import seed_process
from pipeline.training.checkpointing.training_state_dict import restore_state
from pipeline.training.early_stopping import begin_phase
from pipeline.training.recording.metrics_log import BEFORE_END, RECORDS, RECORDS_SHA256, rewind
from pipeline.training.train_state import TrainState


def resume(state: TrainState) -> None:
    """Put the newest valid checkpoint into `state` and cut the records back to it, or begin at step 0.

    A checkpoint of the last step of a shorter training may hold records that exist only because it ended there. They
    are left out, unless this training is re-warmed there.

    Process 0 chooses the checkpoint and mends the folder; all restore from it. Says so when the libraries, the hardware
    or the number of processes differ from the checkpoint's: the run then goes on correctly, but its weights need not be
    those of an undisturbed run to the last bit.
    """
    processes = state.processes
    chosen: Path | None = None
    if processes.is_main:
        state.work.mkdir(parents=True, exist_ok=True)
        chosen = newest_valid(state.work, state.progress.say)
    checkpoint: Path | None = processes.broadcast(chosen)
    if checkpoint is None:
        seed_process(state.seed, processes.rank, 0)
        values: dict[str, Any] = {}
        records = RECORDS
    else:
        values = restore_state(checkpoint, state)
        records = _go_on_after(values, state)
    if processes.is_main:
        sha256 = values.get(RECORDS_SHA256, {}).get(records)
        rewind(state.work, values.get(records, {}), state.progress.say, sha256)
        drop_anatomies(state.work, lambda step: step >= state.counters.step or not state.due.anatomy(step))
        if checkpoint is not None:
            _tell(values["numerics"], state)
    state.log.open(state.counters.step)
    state.bar.start_at(state.counters.step)
    state.began = time.perf_counter() - state.counters.seconds


def _go_on_after(values: dict[str, Any], state: TrainState) -> str:
    """Adapt the restored counters to this training; returns which of a checkpoint's records are kept."""
    config, counters, records = state.config, state.counters, RECORDS
    if counters.step in config.rewarmed_at:
        begin_phase(counters)
    if not state.due.end(counters.step) and (BEFORE_END in values or counters.evaluation_due):
        records = BEFORE_END if BEFORE_END in values else RECORDS
        counters.evaluation_due = state.due.validation(counters.step)
        for spike in counters.named_spikes:  # what was told only because that training ended
            if BEFORE_END in values and spike.told_at == counters.step:
                spike.told_at, spike.words = None, ""
    counters.resumed_from_steps.append(counters.step)
    if state.processes.broadcast(state.processes.is_main and _lost_best(state.work, counters)):
        state.progress.say(
            f"warning: the checkpoint of the lowest validation loss, of step {counters.best_step}, is lost or broken"
        )
        counters.best_step = counters.best_loss = None
    return records


def _tell(before: dict[str, Any], state: TrainState) -> None:
    """Say where the training goes on, and what of its numerics changed."""
    state.progress.say(f"resuming at step {state.counters.step}")
    now = state.numerics
    changed = [f"{name} {before.get(name)} -> {now[name]}" for name in now if before.get(name) != now[name]]
    if changed:
        state.progress.say(
            f"warning: since the checkpoint changed {', '.join(changed)}: last bits of the weights may differ"
        )


def _lost_best(work: Path, counters: Counters) -> bool:
    return counters.best_step is not None and problem_of(checkpoint_of(work, counters.best_step)) is not None
