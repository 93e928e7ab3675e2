"""Negative log-likelihoods of a packed split under a causal language model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from pipeline.modeling.inputs import evaluating, model_inputs
from pipeline.tokens.labelled_split import LabelledSplit, ignore_labels
from pipeline.tokens.reader import IGNORED_LABEL, PackedSplit

CHUNK_ELEMENTS = 2**24
"""Logits turned into float32 at once: 64 MiB. Bounds the memory at large vocabularies."""


@dataclass(frozen=True)
class LossSums:
    """Sums over target tokens, or over labels: negative log-likelihood in nats, targets, and targets predicted."""

    nll: float
    tokens: int
    correct: int

    @classmethod
    def from_tensor(cls, sums: torch.Tensor) -> LossSums:
        """From the (3,) tensor of `sum_losses`, after the caller has added up those of all processes."""
        nll, tokens, correct = sums.tolist()
        return cls(nll, round(tokens), round(correct))

    @property
    def loss(self) -> float:
        """Mean negative log-likelihood in nats a token."""
        return self.nll / self.tokens


def token_losses(logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Negative log-likelihood (B, T) float32 in nats, and whether the target was the likeliest token (B, T) bool.

    `logits` is (B, T, V) in any floating type, `labels` (B, T) shifted targets; or scores of classes (B, C) and their
    numbers (B,), and so are the results; where they are -100 the results are
    0 and False. Only `CHUNK_ELEMENTS` logits are in float32 at a time.
    """
    rows, targets = logits.flatten(0, -2), labels.flatten()
    chunk = max(1, CHUNK_ELEMENTS // rows.shape[-1])
    nll = torch.empty(len(targets), dtype=torch.float32, device=logits.device)
    correct = torch.empty(len(targets), dtype=torch.bool, device=logits.device)
    for start in range(0, len(targets), chunk):
        part = slice(start, start + chunk)
        nll[part] = F.cross_entropy(rows[part].float(), targets[part], reduction="none", ignore_index=IGNORED_LABEL)
        correct[part] = rows[part].argmax(-1) == targets[part]
    return nll.view_as(labels), correct.view_as(labels)


def regression_losses(logits: torch.Tensor, labels: torch.Tensor, huber_delta: float | None) -> torch.Tensor:
    """Squared error (B,) float32 of predicted numbers (B, 1) against `labels` (B,), 0 where those are NaN.

    With a delta Huber's loss (Huber 1964, "Robust Estimation of a Location Parameter"): half the squared error up to
    it, and linear from there.
    """
    is_target = ~labels.isnan()
    # Masked before the loss, not after: 0 times the gradient of NaN is NaN.
    predicted, wanted = logits.squeeze(-1).float().where(is_target, 0.0), labels.where(is_target, 0.0)
    if huber_delta is None:
        return F.mse_loss(predicted, wanted, reduction="none")
    return F.huber_loss(predicted, wanted, reduction="none", delta=huber_delta)


Measure = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""From logits and labels of a batch to sums over its targets, (n,) float64."""


def token_sums(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Negative log-likelihood in nats, the number of targets, and the number predicted exactly: (3,) float64."""
    nll, correct = token_losses(logits, labels)
    targets = labels != IGNORED_LABEL
    return torch.stack([nll.sum(dtype=torch.float64), targets.sum().double(), correct.sum().double()])


def number_sums(logits: torch.Tensor, labels: torch.Tensor, huber_delta: float | None) -> torch.Tensor:
    """The loss of a regression, the number of targets, the squared error and the absolute error: (4,) float64."""
    loss = regression_losses(logits, labels, huber_delta).sum(dtype=torch.float64)
    errors = (logits.squeeze(-1).double() - labels).where(~labels.isnan(), 0.0)
    return torch.stack([loss, (~labels.isnan()).sum().double(), errors.square().sum(), errors.abs().sum()])


def sum_losses(
    model: nn.Module,
    split: PackedSplit | LabelledSplit,
    batch_size: int,
    device: torch.device,
    *,
    measure: Measure = token_sums,
    max_batches: int | None = None,
    autocast_dtype: torch.dtype | None = None,
    process_index: int = 0,
    num_processes: int = 1,
    before_batch: Callable[[], None] = lambda: None,
) -> torch.Tensor:
    """Sums over the windows of a split, from its start: a float64 tensor on `device` of what `measure` gives.

    At most `max_batches` batches of `batch_size` windows are taken, over all processes; process p computes batches
    p, p + num_processes, ... The caller adds the tensors of the processes (and reads `LossSums.from_tensor`). All
    processes run the model equally often, as sharded models need; a surplus batch counts nothing. `before_batch` is
    called each time and may raise to leave in the middle. Nothing is copied to the host. `model(input_ids=...)` returns
    an object with `logits`; its training flags are as before afterwards.
    """
    starts = range(0, len(split), batch_size)[:max_batches]
    sums = torch.zeros((), dtype=torch.float64, device=device)
    with evaluating(model):
        for first in range(0, len(starts), num_processes):
            before_batch()
            position = min(first + process_index, len(starts) - 1)
            start = starts[position]
            batch = split.batch(range(start, min(start + batch_size, len(split))))
            if first + process_index > position:
                ignore_labels(batch["labels"])
            labels = torch.from_numpy(batch["labels"]).to(device)
            sums = sums + measure(model_logits(model, batch, device, autocast_dtype), labels)
    return sums


def iterate_losses(
    model: nn.Module,
    split: PackedSplit,
    batch_size: int,
    device: torch.device,
    *,
    stride: int | None = None,
    autocast_dtype: torch.dtype | None = None,
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.bool_]]]:
    """Loss of every target of a split in the order of the stream: token 1, 2, ..., num_tokens - 1, each once.

    Yields, batch by batch, negative log-likelihoods in nats and whether each token was predicted exactly, both (n,).
    Windows begin `stride` tokens apart (null: block_size) and each scores the tokens that no earlier one scored: every
    token but those of the first window then has at least block_size - stride tokens of context. The cost grows by
    block_size / stride.
    """
    with evaluating(model):
        spans = iter(strided_spans(split.num_tokens, split.block_size, stride or split.block_size))
        while part := list(islice(spans, batch_size)):
            batch = split.batch_at(part)
            labels = torch.from_numpy(batch["labels"]).to(device)
            nll, correct = token_losses(model_logits(model, batch, device, autocast_dtype), labels)
            targets = labels != IGNORED_LABEL
            yield nll[targets].cpu().numpy(), correct[targets].cpu().numpy()


def strided_spans(num_tokens: int, block_size: int, stride: int) -> Iterable[tuple[int, int]]:
    """(first input, first target that counts) of windows that begin `stride` <= `block_size` tokens apart, until every
    token but the first of the stream has counted as a target once."""
    assert 1 <= stride <= block_size
    scored, start = 1, 0
    while scored < num_tokens:
        yield start, scored
        scored = start + block_size + 1
        start += stride


def model_logits(
    model: nn.Module, batch: dict[str, Any], device: torch.device, autocast_dtype: torch.dtype | None = None
) -> torch.Tensor:
    """Logits of a batch of a split."""
    inputs = model_inputs({name: torch.from_numpy(values).to(device) for name, values in batch.items()})
    with torch.autocast(device.type, dtype=autocast_dtype, enabled=autocast_dtype is not None):
        logits: torch.Tensor = model(**inputs).logits
    return logits
