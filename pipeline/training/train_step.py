"""One optimizer step: forward, loss and backward of each micro-batch, then clip, step and average."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from pipeline.modeling.inputs import model_inputs
from pipeline.training.accelerator import no_sync
from pipeline.training.batches import GlobalBatch
from pipeline.training.optimization.parameter_groups import set_learning_rate
from pipeline.training.optimization.schedules import learning_rate
from pipeline.training.train_state import TrainState


@dataclass(frozen=True)
class StepResult:
    """What a step leaves for the records. `layers` are the figures of LayerNorms, None where they were not due or the
    step was skipped."""

    learning_rate: float
    layers: torch.Tensor | None


def train_step(state: TrainState, batch: GlobalBatch) -> StepResult:
    """Take one optimizer step on a global batch, unless the guard refuses it. All processes call it.

    Raises DivergedError where the guard ends the training.
    """
    counters, optimizer = state.counters, state.accelerated_optimizer
    rate = learning_rate(state.config, counters.step, state.max_steps)
    counters.step += 1
    counters.target_tokens += batch.target_tokens
    state.guard.begin()

    for micro_batch in batch.micro_batches:
        is_last = micro_batch is batch.micro_batches[-1]
        with no_sync(state.accelerator, state.network, enabled=not is_last):
            losses = forward_backward(state, micro_batch, batch.target_tokens)
        state.interval.add_losses(losses)
    state.meter.mark("forward_backward")

    before, layers = state.layer_norms.before() if _measures(state) else None, None
    grad_norms = state.clip()
    if state.guard.accepts(grad_norms, batch.target_tokens):
        set_learning_rate(optimizer, rate)
        optimizer.step()
        state.average.update(counters.step)
        layers = state.layer_norms.after(before) if before else None
    del before  # a copy of the weights
    optimizer.zero_grad()
    state.meter.mark("optimizer")
    state.meter.stop(batch.num_tokens)
    state.count_seconds()
    return StepResult(rate, layers)


def forward_backward(
    state: TrainState, micro_batch: dict[str, torch.Tensor], target_tokens: int
) -> dict[str, torch.Tensor]:
    """Add the gradient of a micro-batch to that of the step; returns its losses, summed over its targets.

    The gradient is that of the sum divided by the targets of the whole global batch, so that every accumulation and
    any number of processes, over which gradients are averaged, gives the same one.
    """
    output = state.network(**model_inputs(micro_batch), **state.routing.inputs)
    plain = state.task.loss_sums(output, micro_batch, state.config)
    total, losses = state.routing.add(plain, output, micro_batch)
    del output  # logits, the largest of all activations: free for the backward pass
    state.accelerator.backward(total / (target_tokens / state.processes.dims.dp_world_size))
    return losses


def _measures(state: TrainState) -> bool:
    """Whether the figures of layers are recorded after this step."""
    step = state.counters.step
    return state.config.ends_at(step, state.max_steps) or state.config.measures_at(step)
