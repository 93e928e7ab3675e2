"""The training loop."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.errors import InterruptedRun
from pipeline.modeling.inputs import trusted_inputs
from pipeline.training.accelerator import settle_buckets
from pipeline.training.batches import GlobalBatch
from pipeline.training.checkpointing.counters import Counters
from pipeline.training.checkpointing.resume import resume
from pipeline.training.checkpointing.training_state_dict import take_snapshot
from pipeline.training.early_stopping import ends_early, note_validation
from pipeline.training.guarding.guards import check_finite, check_weights
from pipeline.training.numerics import deterministic_algorithms
from pipeline.training.recording.metrics_log import headline
from pipeline.training.routing import load_ratio
from pipeline.training.train_state import TrainState
from pipeline.training.train_step import StepResult, train_step
from pipeline.training.validation import validate


def train(state: TrainState) -> Counters:
    """Train the model of the state that `build` made, in place, together with the launcher's other processes; one that
    was killed or interrupted goes on from its work folder exactly.

    Raises InterruptedRun after a signal, once a checkpoint is saved, and DivergedError on numbers that are not finite.
    """
    with running(state):
        settle_buckets(state.config, state.task, state.accelerator, state.network, state.batches[0])
        resume(state)
        if state.counters.evaluation_due:  # a signal came in the middle of it
            validate_if_due(state)
            save_if_due(state)
        while not is_done(state):
            batch = next_batch(state)
            result = train_step(state, batch)
            log_if_due(state, result)
            validate_if_due(state)
            save_if_due(state)
    finish(state)
    return state.counters


@contextmanager
def running(state: TrainState) -> Iterator[None]:
    """Heed signals, hangs and lost processes while the block runs; close checkpoints and records at its end."""
    bar = state.progress.task("training", total=state.max_steps, unit="steps")
    with (
        deterministic_algorithms(state.config.deterministic),
        trusted_inputs(),
        state.processes.lost_peers(),
        state.interrupts,
        state.watchdog,
    ):
        with state.checkpoints, state.log, bar as state.bar:
            yield
        # A launcher that sees one process end stops the others, in the middle of a checkpoint too.
        state.processes.wait()


def next_batch(state: TrainState) -> GlobalBatch:
    """The global batch of the next step."""
    state.meter.start()
    batch = state.batches[state.counters.step]
    state.meter.mark("data")
    return batch


def log_if_due(state: TrainState, result: StepResult) -> None:
    """Record the steps since the last record, every `logging_steps` and at the end; advance the bar. Raises
    DivergedError on a value that is not finite."""
    config, counters = state.config, state.counters
    if config.ends_at(counters.step, state.max_steps) or config.records_at(counters.step):
        values = state.guard.settle()
        values |= state.interval.read(state.processes) | state.meter.read()
        values |= load_ratio(values) | {"train/learning_rate": result.learning_rate}
        values |= state.layer_norms.tags(result.layers) if result.layers is not None else {}
        check_finite(values, counters.step, state.work)
        state.log.log(counters, values)
        state.headline = headline(values, state.meter.peak_kind)
        state.interval.recorded(counters.step)
    state.bar.update(1, state.headline)


def validate_if_due(state: TrainState) -> None:
    """Measure the validation split every `eval_steps` and at the end. A signal in the middle leaves it due, for the
    training that goes on. Raises DivergedError on a loss that is not finite."""
    config, counters = state.config, state.counters
    if config.ends_at(counters.step, state.max_steps) or is_due(counters.step, config.eval_steps):
        counters.evaluation_due = True
    if not counters.evaluation_due:
        return
    values = validate(state)
    if values is None:
        return
    counters.evaluation_due = False
    state.count_seconds()
    check_finite(values, counters.step, state.work)
    state.log.log(counters, values)
    if config.export == "best":
        counters.note_best(values["eval/loss"])
    note_validation(config, counters, state.max_steps, values["eval/loss"])


def save_if_due(state: TrainState) -> None:
    """Save a checkpoint every `save_steps`, of the lowest validation loss, at the end, and where a process wants one:
    it was signalled, or too much time has passed. All processes learn of that here."""
    counters = state.counters
    wishes = state.interrupts.signal, state.checkpoints.is_wanted(counters.step)
    state.stop_signal, is_wanted = state.processes.agree(*wishes)
    is_best = counters.best_step == counters.step
    if is_done(state) or is_wanted or is_best or is_due(counters.step, state.config.save_steps):
        state.guard.settle()
        check_weights(state.model, counters.step, state.work)
        snapshot = take_snapshot(state, state.log.state())
        state.checkpoints.save(counters.step, snapshot.write, counters.best_step)


def finish(state: TrainState) -> None:
    """Give the model its own forward pass back. Raises InterruptedRun where a signal stopped the training."""
    if state.stop_signal:
        raise InterruptedRun(
            f"training: stopped by {signal.Signals(state.stop_signal).name} after step {state.counters.step} of "
            f"{state.max_steps}; a checkpoint is saved; run the same command again to go on"
        )
    state.accelerator.unwrap_model(state.network, keep_fp32_wrapper=False)


def is_done(state: TrainState) -> bool:
    """Whether no step is left to take, or a signal stops the training."""
    counters = state.counters
    return bool(state.stop_signal) or counters.step >= state.max_steps or ends_early(state.config, counters)


def is_due(step: int, interval: int | None) -> bool:
    """Whether something done every `interval` steps is due after `step` steps."""
    return interval is not None and step % interval == 0
