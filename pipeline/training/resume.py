"""Going on from the newest valid checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pipeline.training.checkpoints import checkpoint_of, list_checkpoints, newest_valid, problem_of, step_of
from pipeline.training.early_stopping import begin_phase
from pipeline.training.metrics_log import BEFORE_END, RECORDS, RECORDS_SHA256, rewind
from pipeline.training.random_states import seed_process
from pipeline.training.state import Counters, TrainingState, restore_learned, restore_state
from pipeline.training.train_config import TrainConfig


def begin(work: Path, state: TrainingState, config: TrainConfig, max_steps: int, say: Callable[[str], None]) -> None:
    """Put the newest valid checkpoint of `work` into `state` and cut the records back to it, or begin anew.

    From a checkpoint of the last step of a shorter training, what that recorded only because it ended is left out,
    unless this one is re-warmed there.

    Process 0 chooses the checkpoint and mends the folder; all restore from it. Says so when the libraries, the hardware
    or the number of processes differ from the checkpoint's: the run then goes on correctly, but its weights need not be
    those of an undisturbed run to the last bit.
    """
    processes = state.processes
    chosen: Path | None = None
    if processes.is_main:
        work.mkdir(parents=True, exist_ok=True)
        chosen = newest_valid(work, say)
    checkpoint: Path | None = processes.gather(chosen)[0]
    if checkpoint is None:
        seed_process(state.seed, processes.index, 0)
        sizes: dict[str, int] = {}
        sha256 = None
    else:
        values = restore_state(checkpoint, state)
        at, before, records = state.counters, values["numerics"], RECORDS
        if at.step in config.rewarmed_at:
            begin_phase(at)
        if not config.ends_at(at.step, max_steps) and (BEFORE_END in values or at.evaluation_due):
            records = BEFORE_END if BEFORE_END in values else RECORDS
            at.evaluation_due = config.eval_steps is not None and at.step % config.eval_steps == 0
        sizes, sha256 = values[records], values.get(RECORDS_SHA256, {}).get(records)
        at.resumed_from_steps.append(at.step)
        if processes.gather(processes.is_main and _lost_best(work, at))[0]:
            say(f"warning: the checkpoint of the lowest validation loss, of step {at.best_step}, is lost or broken")
            at.best_step = at.best_loss = None
    if not processes.is_main:
        return
    rewind(work, sizes, say, sha256)
    if checkpoint is not None:
        say(f"resuming at step {state.counters.step}")
        now = state.numerics
        changed = [f"{name} {before.get(name)} -> {now[name]}" for name in now if before.get(name) != now[name]]
        if changed:
            say(f"warning: since the checkpoint changed {', '.join(changed)}: last bits of the weights may differ")


def _lost_best(work: Path, at: Counters) -> bool:
    return at.best_step is not None and problem_of(checkpoint_of(work, at.best_step)) is not None


def roll_back(work: Path, state: TrainingState, save_steps: int) -> int | None:
    """Put weights and optimizer of the newest whole checkpoint back; returns its step, or None where there is none.

    Everything else goes on from where it is: step, records and data, so that the batches since the checkpoint are left
    behind, as Chowdhery et al. (2022, "PaLM", section 5.1) did past spikes of the loss. Only the checkpoints of every
    `save_steps` count, and not those of a signal or of the clock, so that a stopped training does the same.
    """
    chosen: Path | None = None
    if state.processes.is_main:
        regular = [path for path in list_checkpoints(work) if step_of(path) % save_steps == 0]
        chosen = next((path for path in reversed(regular) if problem_of(path) is None), None)
    checkpoint: Path | None = state.processes.gather(chosen)[0]
    if checkpoint is None:
        return None
    restore_learned(checkpoint, state)
    return step_of(checkpoint)
