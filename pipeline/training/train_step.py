"""One optimizer step: forward, loss and backward of each micro-batch, then clip, step and average."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn.parallel import DistributedDataParallel

from pipeline.modeling.inputs import model_inputs
from pipeline.telemetry.matrix_statistics import Measured
from pipeline.telemetry.noise_scale import own_gradient_squares
from pipeline.training.accelerator import no_sync
from pipeline.training.batches import GlobalBatch
from pipeline.training.optimization.clipping import GradientNorms
from pipeline.training.optimization.parameter_groups import set_learning_rate
from pipeline.training.optimization.schedules import learning_rate
from pipeline.training.train_state import TrainState


@dataclass(frozen=True)
class StepResult:
    """What a step gives the log. Tensors stay on the device."""

    is_skipped: bool
    """Whether the guard refused the step: the weights did not change."""

    loss_sums: dict[str, torch.Tensor]
    """Each loss, summed over this process's targets."""

    target_tokens: int
    """Targets of all processes."""

    grad_norms: GradientNorms
    learning_rate: float

    small_squares: torch.Tensor | None
    """The squared norm of this process's part of the gradient after the first of several micro-batches. None if it is
    not due."""

    matrices: Measured | None
    """The figures of `MatrixStatistics`. None if they are not due or the step was skipped."""


def train_step(state: TrainState, batch: GlobalBatch) -> StepResult:
    """Take one optimizer step on a global batch, unless the guard refuses it. All processes call it.

    Raises DivergedError if the guard ends the training.
    """
    counters, optimizer = state.counters, state.optimizer
    rate = learning_rate(state.config, counters.step, state.max_steps)
    counters.step += 1
    counters.target_tokens += batch.target_tokens
    state.guard.begin()

    measures_noise = state.due.noise(counters.step) and len(batch.micro_batches) > 1 and state.loss_scaler is None
    small_squares = None
    loss_sums: dict[str, torch.Tensor] = {}
    with state.input_rows.watching():
        for micro_batch in batch.micro_batches:
            is_last = micro_batch is batch.micro_batches[-1]
            with no_sync(state.accelerator, state.model, enabled=not is_last):
                losses = forward_backward(state, micro_batch, batch.target_tokens)
            for name, loss in losses.items():
                loss_sums[name] = loss_sums[name] + loss if name in loss_sums else loss.float()
            if measures_noise and small_squares is None:
                small_squares = own_gradient_squares(state.unwrapped_model)
    state.meter.mark("forward_backward")

    state.accelerator.unscale_gradients()  # fp16: once a step, before anything reads them
    before = None
    if state.due.telemetry(counters.step):
        before = state.matrix_statistics.before(with_histograms=state.due.histograms(counters.step))
    grad_norms = state.clip_gradients()

    matrices = None
    is_taken = state.guard.judge_step(loss_sums["loss"], grad_norms.norm, batch.target_tokens)
    if is_taken:
        state.guard.set_found_inf(state.unwrapped_optimizer)
        set_learning_rate(optimizer, rate)
        optimizer.step()
        state.ema.update(counters.step)
        state.input_rows.take_step(grad_norms.norm)
        overflowed = state.loss_scaler is not None and not bool(grad_norms.norm.isfinite())  # skipped by the scaler
        if before is not None and not overflowed:
            matrices = state.matrix_statistics.after(before)
    del before  # a copy of the weights
    optimizer.zero_grad()  # frees the gradients before validation
    state.meter.mark("optimizer")
    state.meter.stop(batch.num_tokens)
    state.count_seconds()
    return StepResult(not is_taken, loss_sums, batch.target_tokens, grad_norms, rate, small_squares, matrices)


def forward_backward(
    state: TrainState, micro_batch: dict[str, torch.Tensor], target_tokens: int
) -> dict[str, torch.Tensor]:
    """Add the gradient of a micro-batch to that of the step. Returns its losses, summed over its targets.

    The loss is divided by the target tokens of the whole global batch, so accumulation does not change the gradient.
    It is multiplied by the number of data-parallel processes, since DDP and FSDP average over them.
    """
    output = state.model(**model_inputs(micro_batch), **state.routing.inputs)
    plain = state.task.loss_sums(output, micro_batch, state.config)
    total, losses = state.routing.add(plain, output, micro_batch)
    del output  # logits, the largest of all activations: free for the backward pass
    # Not `total * n / target_tokens`: it rounds otherwise, and the bits of trained weights are kept.
    state.accelerator.backward(total / (target_tokens / state.processes.dims.dp_world_size))
    return losses


def settle_buckets(state: TrainState) -> None:
    """Let DistributedDataParallel lay out its buckets of gradients for good, by a backward pass that teaches nothing.

    It does so after its first pass, by the order in which gradients came; from three processes on, the layout decides
    in which order they are added up, so a resumed run must not begin with another one. Draws random numbers.
    """
    if not isinstance(state.model, DistributedDataParallel):
        return
    micro_batch = state.batches[0].micro_batches[0]
    output = state.model(**model_inputs(micro_batch))
    state.accelerator.backward(state.task.loss_sums(output, micro_batch, state.config).total)
    state.model.zero_grad(set_to_none=True)
