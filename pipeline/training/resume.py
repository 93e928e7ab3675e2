"""Going on from the newest valid checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pipeline.training.checkpoints import newest_valid
from pipeline.training.metrics import rewind
from pipeline.training.state import TrainingState, restore_state


def resume(work: Path, state: TrainingState, say: Callable[[str], None]) -> None:
    """Put the newest valid checkpoint of `work`, if there is one, into `state`, and cut the records back to it.

    Says so when the libraries or the hardware differ from the checkpoint's: the run then goes on correctly, but its
    weights need not be those of an undisturbed run to the last bit.
    """
    work.mkdir(parents=True, exist_ok=True)
    checkpoint = newest_valid(work, say)
    if checkpoint is None:
        rewind(work, {}, say)
        return
    sizes, before = restore_state(checkpoint, state)
    rewind(work, sizes, say)
    state.counters.resumed_from_steps.append(state.counters.step)
    say(f"resuming at step {state.counters.step}")
    changed = [f"{name} {before.get(name)} -> {now}" for name, now in state.numerics.items() if before.get(name) != now]
    if changed:
        say(f"warning: since the checkpoint changed {', '.join(changed)}: last bits of the weights may differ")
