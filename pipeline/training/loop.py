"""The training loop."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from pipeline.errors import InterruptedRun
from pipeline.modeling.inputs import trusted_inputs
from pipeline.telemetry.transfer import to_host
from pipeline.training.batches import GlobalBatch
from pipeline.training.benchmarking import benchmark
from pipeline.training.checkpointing.counters import Counters
from pipeline.training.checkpointing.resume import resume
from pipeline.training.checkpointing.training_state_dict import take_snapshot
from pipeline.training.early_stopping import ends_early, note_validation
from pipeline.training.guarding.guards import check_finite, check_finite_weights
from pipeline.training.guarding.rollback import roll_back
from pipeline.training.guarding.spike_documents import name_spikes
from pipeline.training.numerics import deterministic_algorithms
from pipeline.training.recording.anatomy_records import record_anatomy
from pipeline.training.recording.metrics_log import record_in_words
from pipeline.training.recording.noise_record import measured_squares, note_noise
from pipeline.training.routing import load_ratio
from pipeline.training.sampling import sample
from pipeline.training.train_state import TrainState
from pipeline.training.train_step import StepResult, settle_buckets, train_step
from pipeline.training.validation import validate


def train(state: TrainState) -> Counters:
    """Train the model of `state`, in place. All processes of the launch call it. A training that was stopped resumes
    from its newest checkpoint and reaches the same weights.

    Raises InterruptedRun after a signal, once a checkpoint is saved, and DivergedError on numbers that are not finite.
    """
    with training_session(state):
        settle_buckets(state)
        resume(state)
        if state.counters.step == 0:
            log_start(state)
        if state.counters.evaluation_due:  # a signal came in the middle of it
            validate_if_due(state)
            share_signals(state)
            if is_save_due(state):
                save(state)
        record_anatomy_if_due(state)

        while not is_done(state):
            batch = next_batch(state)
            result = train_step(state, batch)
            state.running_sums.add(result)

            if state.due.log(state.counters.step):
                review_steps(state)
                log(state, result)
                name_spikes(state)
            state.bar.update(1, state.headline)

            validate_if_due(state)

            share_signals(state)
            if is_save_due(state):
                review_steps(state)
                save(state)
            record_anatomy_if_due(state)
    finish(state)
    return state.counters


@contextmanager
def training_session(state: TrainState) -> Iterator[None]:
    """Watch for signals, hangs and lost processes while training. At the end close the checkpoint writer and the
    log."""
    bar = state.progress.bar("training", total=state.max_steps, unit="steps")
    with (
        deterministic_algorithms(state.config.deterministic),
        trusted_inputs(),
        state.processes.connection_errors(),
        state.interrupts,
        state.watchdog,
    ):
        with state.checkpoints, state.log, bar as shown:
            state.bar = shown
            yield
        # A launcher that sees one process end stops the others, in the middle of a checkpoint too.
        state.processes.barrier()


def next_batch(state: TrainState) -> GlobalBatch:
    """The global batch of the next step."""
    state.meter.start()
    batch = state.batches[state.counters.step]
    state.meter.mark("data")
    return batch


def review_steps(state: TrainState) -> None:
    """Let the guard look at the steps since the last review, before they are logged or saved. After a spike put the
    weights of an earlier checkpoint back, with `on_loss_spike: rollback`.

    Waits for the device. Raises DivergedError on a loss or gradient that is not finite.
    """
    state.guard.read_steps()
    while (spike := state.guard.next_spike()) is not None:
        state.checkpoints.wait()
        restored_step = roll_back(state.work, state, state.config.save_steps)
        state.guard.note_rollback(spike, restored_step)


def log_start(state: TrainState) -> None:
    """Log what the probe sees of a model before its first step."""
    if state.due.telemetry(0):
        [figures] = to_host([probe(state)])
        state.log.log(state.counters, state.probe.tags(figures), state.probe.histograms(figures))


def probe(state: TrainState) -> torch.Tensor:
    """What the probe sees, on the device."""
    return state.probe.measure(with_histograms=state.due.histograms(state.counters.step))


def log(state: TrainState, result: StepResult) -> None:
    """Log the means over the steps since the last record. Raises DivergedError on a value that is not finite."""
    counters, matrices = state.counters, result.matrices
    none = state.running_sums.norms[:0]
    # Together, in the only copy to the host that a record needs.
    is_measured = state.due.telemetry(counters.step)
    sums, norms, counts, figures, rows, squares = to_host(
        [
            state.running_sums.totals(state.processes),
            *((matrices.norms, matrices.counts) if matrices is not None else (none, none)),
            probe(state) if is_measured else none,
            state.input_rows.num_seen(state.processes) if is_measured else none,
            measured_squares(state, result),
        ]
    )
    values: dict[str, float] = {
        "train/skipped_steps": counters.skipped_steps,
        "train/loss_spikes": counters.losses.spikes,
        "train/grad_norm_spikes": counters.grad_norms.spikes,
        **state.running_sums.means(sums),
        **state.meter.read(),
        **note_noise(state, squares, result.target_tokens),
    }
    values |= load_ratio(values) | {"train/learning_rate": result.learning_rate}
    histograms = {}
    if matrices is not None:
        values |= state.matrix_statistics.tags(norms, matrices)
        histograms = state.matrix_statistics.histograms(counts)
    if state.due.benchmarks(counters.step):
        values |= benchmark(state)
    check_finite(values, counters.step, state.work)
    if is_measured:
        values |= state.input_rows.tags(rows) | state.probe.tags(figures)
        histograms |= state.probe.histograms(figures)
    state.log.log(counters, values, histograms)
    state.headline = record_in_words(values, state.meter.peak_kind)
    if state.due.new_sums(counters.step):
        state.running_sums.reset()


def validate_if_due(state: TrainState) -> None:
    """Measure the validation split every `eval_steps` and at the end. A signal in the middle leaves it due, for the
    training that goes on. Raises DivergedError on a loss that is not finite."""
    counters = state.counters
    if state.due.validation(counters.step):
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
    if state.config.samples is not None:
        state.log.tell_text("samples", sample(state), counters.step)
    if state.config.export == "best":
        counters.note_best(values["eval/loss"])
    note_validation(state.due, counters, values["eval/loss"])


def share_signals(state: TrainState) -> None:
    """All-reduce the signals of all processes, and whether process 0's clock asks for a checkpoint."""
    signal, is_overdue = state.interrupts.signal, state.checkpoints.is_overdue()
    state.stop_signal, state.is_checkpoint_wanted = state.processes.all_reduce_max(signal, is_overdue)


def is_save_due(state: TrainState) -> bool:
    """Whether to save a checkpoint: by the number of the step, by the clock, after the best validation, after a signal
    and at the end."""
    step = state.counters.step
    is_best = state.counters.best_step == step
    return state.due.checkpoint(step) or bool(state.is_checkpoint_wanted) or is_best or is_done(state)


def save(state: TrainState) -> None:
    """Save a checkpoint; a thread writes it. Raises DivergedError if a weight is not finite."""
    counters = state.counters
    check_finite_weights(state.unwrapped_model, counters.step, state.work)
    snapshot = take_snapshot(state, state.log.state())
    state.checkpoints.save(counters.step, snapshot.write, counters.best_step)


def record_anatomy_if_due(state: TrainState) -> None:
    """Take the step apart on a copy, by its number and at the end. Process 0 does, the others go on."""
    if state.due.anatomy(state.counters.step) or (is_done(state) and not state.stop_signal):
        record_anatomy(state)


def finish(state: TrainState) -> None:
    """Undo Accelerate's wrapping of `model.forward`. Raises InterruptedRun if a signal stopped the training."""
    if state.stop_signal:
        raise InterruptedRun(
            f"training: stopped by {signal.Signals(state.stop_signal).name} after step {state.counters.step} of "
            f"{state.max_steps}; a checkpoint is saved; run the same command again to go on"
        )
    state.accelerator.unwrap_model(state.model, keep_fp32_wrapper=False)


def is_done(state: TrainState) -> bool:
    """Whether no step is left to take, or a signal stops the training."""
    counters = state.counters
    return bool(state.stop_signal) or counters.step >= state.max_steps or ends_early(state.config, counters)
