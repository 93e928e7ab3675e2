"""The training loop: batches, forward, loss, backward, clip, step, and what is due."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from pipeline.errors import InterruptedRun
from pipeline.modeling.inputs import model_inputs, trusted_inputs
from pipeline.modeling.sharding import is_sharded
from pipeline.progress import Progress
from pipeline.telemetry.layer_norms import LayerNorms
from pipeline.tokens.labelled_split import LabelledSplit
from pipeline.tokens.reader import PackedSplit
from pipeline.training.autopsy import Autopsy
from pipeline.training.averaging import WeightAverage
from pipeline.training.batches import GlobalBatches, TrainingSplit
from pipeline.training.checkpoints import CheckpointWriter
from pipeline.training.clipping import Clipping
from pipeline.training.early_stopping import ends_early, note_validation
from pipeline.training.guards import Guard, check_finite, check_weights
from pipeline.training.interrupts import Interrupts
from pipeline.training.interval import Interval
from pipeline.training.metrics_log import MetricsLog, headline
from pipeline.training.objective import objective
from pipeline.training.optimizers import set_learning_rate
from pipeline.training.order import DataOrder
from pipeline.training.peaks import peak_of
from pipeline.training.processes import Processes
from pipeline.training.resume import begin
from pipeline.training.routing import Routing, load_ratio
from pipeline.training.schedules import learning_rate
from pipeline.training.setup import (
    deterministic_algorithms,
    join,
    make_accelerator,
    num_steps,
    numerics_of,
    prepare_layers,
    settle_buckets,
    without_averaging,
)
from pipeline.training.state import Counters, TrainingState, take_snapshot
from pipeline.training.throughput import Meter
from pipeline.training.trackers import RunLabel
from pipeline.training.train_config import TrainConfig
from pipeline.training.validation import validate
from pipeline.training.watchdog import Watchdog


def train(
    config: TrainConfig,
    model: PreTrainedModel,
    train_split: TrainingSplit,
    validation_split: PackedSplit | LabelledSplit,
    *,
    give_weights: Callable[[PreTrainedModel, torch.device], None],
    seed: int,
    chosen: Mapping[str, Any],
    work: Path,
    progress: Progress,
    fail: Callable[[BaseException], None],
    label: RunLabel,
) -> Counters:
    """Train `model` in place, together with the launcher's other processes. `give_weights` completes its weights where
    they will stay. `chosen` are settings that were `auto`. `work`, which the processes share, keeps checkpoints and
    records under the `label`; a killed training goes on from it exactly. `fail` learns what ends a process that hangs.

    Raises InterruptedRun after a signal, once a checkpoint is saved, and DivergedError on numbers that are not finite.
    """
    max_steps = num_steps(config, train_split)
    accelerator = make_accelerator(config, chosen, work, progress.say)
    processes, device = Processes(accelerator), accelerator.device
    order = DataOrder(len(train_split), seed)
    batches = GlobalBatches(train_split, order, config, device, processes.index, processes.count)
    prepare_layers(config, model)
    network, optimizer = join(config, accelerator, model, give_weights)
    routing, norms, clip = Routing(config, model), LayerNorms(model), Clipping(config, accelerator, network)
    average, interval = WeightAverage(model, config.ema_decay), Interval(config, device)
    numerics = numerics_of(config, device, processes.count)
    state = TrainingState(model, optimizer.optimizer, average, interval, numerics, processes, seed, accelerator.scaler)
    autopsy = Autopsy(config, model, batches, processes, work)
    num_writers = processes.count if is_sharded(model) else 1
    checkpoints = CheckpointWriter(config, max_steps, work, processes.index, num_writers)
    guard = Guard(config, state, autopsy, checkpoints, progress.say)
    meter = Meter(model, train_split.block_size, peak_of(device, config.mixed_precision), device, processes.count)

    with (
        deterministic_algorithms(config.deterministic),
        trusted_inputs(),
        processes.lost_peers(),
        Interrupts(progress.say) as interrupts,
        Watchdog(config.hang_timeout_seconds, network, work, processes.index, progress.say, fail),
    ):
        network.train()
        settle_buckets(config, accelerator, network, batches(0))
        begin(work, state, config, max_steps, progress.say)
        at, stop, note, began = state.counters, 0, "", time.perf_counter() - state.counters.seconds
        with (
            checkpoints,
            MetricsLog(work, accelerator, config, max_steps, label, at.step > 0, progress.say) as log,
            progress.task("training", total=max_steps, unit="steps") as task,
        ):
            task.start_at(at.step)
            while not stop and (at.evaluation_due or not is_over(config, at, max_steps)):
                if not at.evaluation_due:
                    meter.start()
                    guard.begin()
                    rate = learning_rate(config, at.step, max_steps)
                    batch = batches(at.step)
                    at.step, at.target_tokens = at.step + 1, at.target_tokens + batch.target_tokens
                    records = config.ends_at(at.step, max_steps) or config.records_at(at.step)
                    measures = config.ends_at(at.step, max_steps) or config.measures_at(at.step)
                    meter.mark("data")

                    for part in batch.device_batches:
                        is_last = part is batch.device_batches[-1]
                        with nullcontext() if is_last else without_averaging(accelerator, network):
                            output = network(**model_inputs(part), **routing.inputs)
                            total, sums = routing.add(objective(output, part["labels"], config), output, part)
                            del output  # logits, the largest of all activations: free for the backward pass
                            # By the tokens of the whole global batch, so that every accumulation and any number of
                            # processes, over which gradients are averaged, gives the same gradient.
                            accelerator.backward(total / (batch.target_tokens / processes.count))
                        interval.add_losses(sums)

                    meter.mark("forward_backward")
                    before, layers = norms.before() if measures else None, None
                    if guard.accepts(clip(), batch.target_tokens):
                        set_learning_rate(optimizer, rate)
                        optimizer.step()
                        average.update(at.step)
                        layers = norms.after(before) if before else None
                    del before  # a copy of the weights
                    optimizer.zero_grad()
                    meter.mark("optimizer")
                    meter.stop(batch.num_tokens)

                    at.seconds = time.perf_counter() - began
                    if records:
                        values = guard.settle() | interval.read(processes) | meter.read()
                        values |= load_ratio(values) | {"train/learning_rate": rate}
                        values |= norms.tags(layers) if layers is not None else {}
                        check_finite(values, at.step, work)
                        log.log(at, values)
                        note = headline(values, meter.peak_kind)
                        interval.recorded(at.step)
                    at.evaluation_due = config.ends_at(at.step, max_steps) or is_due(at.step, config.eval_steps)
                    task.update(1, note)

                is_best = False
                if at.evaluation_due:
                    validated = validate(config, network, validation_split, average, device, processes, interrupts)
                    if validated is not None:
                        at.evaluation_due, at.seconds = False, time.perf_counter() - began
                        check_finite(validated, at.step, work)
                        log.log(at, validated)
                        is_best = config.export == "best" and at.note_validation(validated["eval/loss"])
                        note_validation(config, at, max_steps, validated["eval/loss"])

                stop, is_wanted = processes.agree(interrupts.signal, checkpoints.is_wanted(at.step))
                if stop or is_best or is_wanted or is_over(config, at, max_steps) or at.step % config.save_steps == 0:
                    guard.settle()
                    check_weights(model, at.step, work)
                    checkpoints.save(at.step, take_snapshot(state, log.state()).write, at.best_step)
        processes.wait()  # a launcher that sees one process end stops the others, in the middle of a checkpoint too
    if stop:
        raise interrupted_by(stop, at.step, max_steps)
    accelerator.unwrap_model(network, keep_fp32_wrapper=False)
    return at


def interrupted_by(number: int, step: int, max_steps: int) -> InterruptedRun:
    """What a training raises that a signal stopped."""
    return InterruptedRun(
        f"training: stopped by {signal.Signals(number).name} after step {step} of {max_steps}; a checkpoint is saved; "
        "run the same command again to go on"
    )


def is_over(config: TrainConfig, at: Counters, max_steps: int) -> bool:
    """Whether no step is left to take."""
    return at.step >= max_steps or ends_early(config, at)


def is_due(step: int, interval: int | None) -> bool:
    """Whether something done every `interval` steps is due after `step` steps."""
    return interval is not None and step % interval == 0
