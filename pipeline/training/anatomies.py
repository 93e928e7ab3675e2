"""Which steps have an anatomy, and copies of a training to take apart: of one under way, and of a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from tokenizers import Tokenizer
from transformers import PreTrainedModel

from pipeline.errors import ConfigError
from pipeline.evaluation.losses import Batch, on_device
from pipeline.modeling.build import load_model
from pipeline.modeling.open_and_export import give_weights, open_for_training
from pipeline.modeling.weights import model_tensors
from pipeline.tasks import Split, Task
from pipeline.tokens.mixing import Epoch
from pipeline.training.checkpointing.checkpoints import step_of
from pipeline.training.checkpointing.random_states import random_states, restore_random_states
from pipeline.training.checkpointing.training_state_dict import (
    optimizer_entries,
    restore_optimizer,
    restore_saved_optimizer,
    restore_weights,
)
from pipeline.training.dissection import NextRate, Subject
from pipeline.training.optimization.parameter_groups import build_optimizer
from pipeline.training.optimization.schedules import learning_rate, num_steps
from pipeline.training.optimization.sparsity import freeze
from pipeline.training.train_config import TrainConfig

if TYPE_CHECKING:
    from pipeline.training.train_state import TrainState

BATCH_LENGTH, BATCH_TARGETS = 64, 4
"""Positions after which the rows of the batch are cut. There are so many rows that they have as many tokens, and at
least so many targets."""

MOST_PARAMETERS = 1_000_000_000
"""Of a model that `descent anatomy` takes apart: in float64 it takes 8 bytes each."""


def fixed_batch(split: Split, device: torch.device) -> Batch:
    """The first rows of the validation split, cut: the same batch at every step, which is never trained on."""
    number = 1
    while number < len(split) and (
        split.num_targets(range(number)) < BATCH_TARGETS or split.num_tokens_in(range(number + 1)) <= BATCH_LENGTH
    ):
        number += 1
    batch = on_device(split.batch(range(number)), device)
    return {name: values[:, :BATCH_LENGTH] if values.ndim > 1 else values for name, values in batch.items()}


def rate_after(config: TrainConfig, step: int, max_steps: int) -> NextRate:
    """The learning rate of the next step that has one above 0: the first of a warm-up has none. After the last step
    that of the last."""
    following = range(step, min(step + 2, max_steps))
    rates = [NextRate(learning_rate(config, one, max_steps), one + 1, is_last=False) for one in following]
    last = NextRate(learning_rate(config, max_steps - 1, max_steps), max_steps, is_last=step >= max_steps)
    return next((rate for rate in rates if rate.value > 0), last)


def decoder(tokenizer_file: Path) -> Callable[[list[int]], str]:
    """Gives the text of tokens, special ones by their names."""
    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    return lambda ids: str(tokenizer.decode(ids, skip_special_tokens=False))


def subject_of_checkpoint(
    checkpoint: Path,
    config: TrainConfig,
    task: Task,
    epoch: Epoch,
    validation: Split,
    artifact: Path,
    seed: int,
    device: torch.device,
) -> Subject:
    """A copy of the training that a verified checkpoint is of, whole on the device, however it was sharded. `artifact`
    is the model stage's. Raises ConfigError where the model is too large or quantized."""
    model = open_copy(artifact, config, seed, device)
    restore_weights(checkpoint, model)
    optimizer = build_optimizer(config, model, device)
    restore_saved_optimizer(checkpoint, model, optimizer)
    step = step_of(checkpoint)
    return Subject(
        config=config,
        task=task,
        model=model,
        step=step,
        batch=fixed_batch(validation, device),
        decode=decoder(artifact / "model" / "tokenizer.json"),
        optimizer=optimizer,
        rate=rate_after(config, step, num_steps(config, epoch.windows, epoch.target_tokens)),
    )


def subject_of_training(state: TrainState, artifact: Path) -> Subject:
    """A copy of a training under way, on the CPU, where it takes nothing from what trains. `artifact` is the model
    stage's. Raises ConfigError where the model is quantized."""
    device = torch.device("cpu")
    model = open_copy(artifact, state.config, state.seed, device)
    copies = model_tensors(model)
    with torch.no_grad():
        for name, tensor in model_tensors(state.unwrapped_model).items():
            copies[name].copy_(tensor)
    optimizer = build_optimizer(state.config, model, device)
    tensors, values = optimizer_entries(state.unwrapped_model, state.unwrapped_optimizer)
    restore_optimizer(model, optimizer, {name: one.cpu().clone() for name, one in tensors.items()}, values)
    return Subject(
        config=state.config,
        task=state.task,
        model=model,
        step=state.counters.step,
        batch=fixed_batch(state.validation_split, device),
        decode=decoder(artifact / "model" / "tokenizer.json"),
        optimizer=optimizer,
        rate=rate_after(state.config, state.counters.step, state.max_steps),
    )


def subject_of_model(
    folder: Path, step: int, config: TrainConfig, task: Task, validation: Split, device: torch.device
) -> Subject:
    """An exported model, whose optimizer is not known. Raises ConfigError where it is too large or quantized."""
    model = load_model(folder)
    check_size(model)
    return Subject(
        config=config,
        task=task,
        model=model.to(device),
        step=step,
        batch=fixed_batch(validation, device),
        decode=decoder(folder / "tokenizer.json"),
        optimizer=None,
        rate=None,
    )


def open_copy(artifact: Path, config: TrainConfig, seed: int, device: torch.device) -> PreTrainedModel:
    """The model of a training as it began, in float32, with what is frozen."""
    with _keeping_random_states():
        model = open_for_training(artifact, seed, is_mixed=False)
        check_size(model)
        give_weights(model, artifact, device)
    freeze(model, config.freeze)
    return model.to(device)


def check_size(model: PreTrainedModel) -> None:
    """Raises ConfigError where a model is too large to take apart, or its weights cannot be moved by a little."""
    number = sum(parameter.numel() for parameter in model.parameters())
    if number > MOST_PARAMETERS:
        raise ConfigError(f"anatomy: the model has {number:,} parameters; it is for up to {MOST_PARAMETERS:,}")
    if getattr(model, "is_quantized", False):
        raise ConfigError("anatomy: the base is quantized, and what is quantized cannot be moved by a little")


@contextmanager
def _keeping_random_states() -> Iterator[None]:
    """Leave all random generators as they were: an adapter's first weights are drawn."""
    before = random_states()
    try:
        yield
    finally:
        restore_random_states(before)
