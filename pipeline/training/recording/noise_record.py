"""The gradient noise scale of a training, from steps of several micro-batches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from pipeline.modeling.sharding import is_sharded
from pipeline.telemetry.unmeasured import UNMEASURED

if TYPE_CHECKING:
    from pipeline.training.train_state import TrainState
    from pipeline.training.train_step import StepResult


def measured_squares(state: TrainState, result: StepResult) -> torch.Tensor:
    """Squared norms of the mean gradient of the first micro-batches and of the whole step, (2,) on the device; empty
    where they were not measured. All processes call it."""
    own = result.small_squares
    counts = state.batches.first_targets(state.counters.step - 1) if own is not None else []
    if own is None or result.is_skipped or not all(counts):
        return state.running_sums.norms[:0]
    dims, is_cut = state.processes.dims, is_sharded(state.model)
    # A sharded gradient is that of all processes' micro-batches together, otherwise each has that of its own.
    factor = result.target_tokens / (sum(counts) if is_cut else dims.dp_world_size * counts[dims.dp_rank])
    small = state.processes.all_reduce_sum(own * factor**2) / dims.replicate
    return torch.stack([small, result.grad_norms.norm.to(small.device).double().square()])


def note_noise(state: TrainState, squares: list[float], target_tokens: int) -> dict[str, float]:
    """Take what `measured_squares` gave, on the host; returns the noise scale in targets by its tag, why it cannot be
    measured, or nothing where chance or a skipped step left it out."""
    is_due = state.due.noise(state.counters.step)
    if is_due and state.loss_scaler is not None:
        return {f"{UNMEASURED}noise_scale_fp16": 1.0}
    if is_due and len(state.batches.windows(0)) == 1:
        return {f"{UNMEASURED}noise_scale": 1.0}
    if squares:
        counts = state.batches.first_targets(state.counters.step - 1)
        # Of batches of several sizes the noise is that of their harmonic mean.
        small = sum(counts) if is_sharded(state.model) else len(counts) / sum(1 / count for count in counts)
        state.counters.noise_scale.add(squares[0], squares[1], small, target_tokens)
    value = state.counters.noise_scale.value
    return {"train/grad_noise_scale": value} if squares and value is not None else {}
