"""Going on from the newest valid checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pipeline.training.checkpoints import newest_valid
from pipeline.training.metrics import rewind
from pipeline.training.random_states import seed_process
from pipeline.training.state import TrainingState, restore_state


def begin(work: Path, state: TrainingState, say: Callable[[str], None]) -> None:
    """Put the newest valid checkpoint of `work` into `state` and cut the records back to it, or begin anew.

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
    else:
        sizes, before = restore_state(checkpoint, state)
        state.counters.resumed_from_steps.append(state.counters.step)
    if not processes.is_main:
        return
    rewind(work, sizes, say)
    if checkpoint is not None:
        say(f"resuming at step {state.counters.step}")
        now = state.numerics
        changed = [f"{name} {before.get(name)} -> {now[name]}" for name in now if before.get(name) != now[name]]
        if changed:
            say(f"warning: since the checkpoint changed {', '.join(changed)}: last bits of the weights may differ")
