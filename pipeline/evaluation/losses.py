"""Losses: those that training minimizes, and their sums over a split for validation and evaluation."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from pipeline.distributed.collectives import ALONE, Collectives
from pipeline.modeling.inputs import evaluating, model_inputs
from pipeline.tokens.packed_split import IGNORED_LABEL, PackedSplit

TOKENS_AT_ONCE = 128
"""Tokens that a processor computes at once, in whole windows. More are no faster there."""

CHUNK_ELEMENTS = 2**24
"""Logits turned into float32 at once: 64 MiB. Bounds the memory at large vocabularies."""


Batch = dict[str, torch.Tensor]
"""Rows of a split: `input_ids` (B, T), `labels`, and what else the model is given, such as `attention_mask` (B, T)."""


class LossSums(NamedTuple):
    """Sums over the targets of a batch, never means: those of any split of a global batch add up.

    `total` is what the gradient is taken of. `parts` are recorded as means a target, as `train/<name>`: the plain
    cross-entropy or error as `loss`; where more is minimized, the total as `objective` and the z-loss before its
    coefficient as `z_loss`.
    """

    total: torch.Tensor
    parts: dict[str, torch.Tensor]


@dataclass(frozen=True)
class TokenSums:
    """Sums over targets: negative log-likelihood in nats, targets, and targets predicted; and `spread_sums`."""

    nll: float
    tokens: int
    correct: int
    spread: list[float]

    @classmethod
    def from_tensor(cls, sums: torch.Tensor) -> TokenSums:
        """From the (6,) tensor of `token_sums`, after the caller has added up those of all processes."""
        nll, tokens, correct, *spread = sums.tolist()
        return cls(nll, round(tokens), round(correct), spread)

    @property
    def loss(self) -> float:
        """Mean negative log-likelihood in nats a token."""
        return self.nll / self.tokens

    @property
    def loss_error(self) -> float:
        """The standard error of that mean."""
        return standard_error(self.nll, self.tokens, self.spread)


def cross_entropy_sums(
    logits: torch.Tensor, labels: torch.Tensor, *, label_smoothing: float, z_loss_coef: float
) -> LossSums:
    """Cross-entropy in nats of logits (B, T, V) against shifted labels (B, T), or of scores of classes (B, C) against
    their numbers (B,); -100 is no target.

    Label smoothing e makes it (1 - e) of that and e of the cross-entropy with the uniform distribution (Szegedy et al.
    2016). The z-loss is the squared logarithm of the softmax's normalizer, times `z_loss_coef` (Chowdhery et al. 2022).
    """
    rows, targets = logits.float().flatten(0, -2), labels.flatten()
    if not label_smoothing and not z_loss_coef:
        loss = F.cross_entropy(rows, targets, ignore_index=IGNORED_LABEL, reduction="sum")
        return LossSums(loss, {"loss": loss.detach()})
    is_target = targets != IGNORED_LABEL
    log_normalizer = rows.logsumexp(-1)
    of_target = rows.gather(1, targets.clamp(min=0).unsqueeze(1)).squeeze(1)
    loss = _sum(log_normalizer - of_target, is_target)
    total, parts = loss, {"loss": loss.detach()}
    if label_smoothing:
        total = (1 - label_smoothing) * loss + label_smoothing * _sum(log_normalizer - rows.mean(-1), is_target)
    if z_loss_coef:
        z_loss = _sum(log_normalizer.square(), is_target)
        total = total + z_loss_coef * z_loss
        parts["z_loss"] = z_loss.detach()
    return LossSums(total, {**parts, "objective": total.detach()})


def _sum(values: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    return torch.where(chosen, values, 0.0).sum()


def token_losses(logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Negative log-likelihood (B, T) float32 in nats, and whether the target was the likeliest token (B, T) bool.

    `logits` is (B, T, V) in any floating type, `labels` (B, T) shifted targets; or scores of classes (B, C) and their
    numbers (B,), and so are the results. Where a label is -100 they are 0 and False. Only `CHUNK_ELEMENTS` logits are
    in float32 at a time.
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


class TokenFigures(NamedTuple):
    """What a model gave for targets, all (n,)."""

    nll: NDArray[np.float32]
    """Negative log-likelihood in nats."""
    is_likeliest: NDArray[np.bool_]
    is_in_top_5: NDArray[np.bool_]
    """Whether fewer than five tokens were likelier."""
    confidence: NDArray[np.float32]
    """Probability of the likeliest token."""
    context: NDArray[np.int64]
    """Tokens before it in its window."""


def token_figures(logits: torch.Tensor, labels: torch.Tensor) -> TokenFigures:
    """Of the targets among the labels (B, T), -100 being none, from logits (B, T, V)."""
    nll, correct = token_losses(logits, labels)
    targets = labels != IGNORED_LABEL
    rows, wanted = logits[targets], labels[targets]
    chunk = max(1, CHUNK_ELEMENTS // rows.shape[-1])
    in_top_5 = torch.empty(len(wanted), dtype=torch.bool, device=logits.device)
    confidence = torch.empty(len(wanted), dtype=torch.float32, device=logits.device)
    for start in range(0, len(wanted), chunk):
        part = slice(start, start + chunk)
        scores = rows[part].float()
        in_top_5[part] = (scores > scores.gather(-1, wanted[part, None])).sum(-1) < 5
        confidence[part] = (scores.amax(-1) - scores.logsumexp(-1)).exp()
    context = torch.arange(1, labels.shape[1] + 1, device=labels.device).expand_as(labels)[targets]
    found = (nll[targets], correct[targets], in_top_5, confidence, context)
    return TokenFigures(*(values.cpu().numpy() for values in found))


def spread_sums(losses: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """How a batch's losses differ from row to row, for `standard_error`: of a row with the loss L in all and n targets
    the sums of L^2, L n and n^2, (3,) float64. `targets` says which of `losses`, (B, T) or (B,), count; others are
    0."""
    of_row = losses.reshape(len(losses), -1).sum(-1, dtype=torch.float64)
    counts = targets.reshape(len(losses), -1).sum(-1, dtype=torch.float64)
    return torch.stack([of_row.square().sum(), (of_row * counts).sum(), counts.square().sum()])


def standard_error(loss: float, count: float, spread: Sequence[float]) -> float:
    """Of the mean loss of a target, `loss / count`, as a ratio of sums over rows (Cochran 1977, "Sampling Techniques"):
    targets of one row are not independent."""
    squares, products, counts = spread
    mean = loss / count
    return math.sqrt(max(0.0, squares - 2 * mean * products + mean**2 * counts)) / count


class Rows(Protocol):
    """What a split is cut into, by index."""

    def __len__(self) -> int: ...
    def batch(self, indices: Iterable[int]) -> dict[str, NDArray[Any]]: ...


def token_sums(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Negative log-likelihood in nats, the number of targets, the number predicted exactly, and `spread_sums`: (6,)
    float64."""
    nll, correct = token_losses(logits, labels)
    targets = labels != IGNORED_LABEL
    sums = torch.stack([nll.sum(dtype=torch.float64), targets.sum().double(), correct.sum().double()])
    return torch.cat([sums, spread_sums(nll, targets)])


def number_sums(logits: torch.Tensor, labels: torch.Tensor, huber_delta: float | None) -> torch.Tensor:
    """The loss of a regression, the number of targets, the squared error, the absolute error, and `spread_sums`: (7,)
    float64."""
    losses, targets = regression_losses(logits, labels, huber_delta), ~labels.isnan()
    errors = (logits.squeeze(-1).double() - labels).where(targets, 0.0)
    loss = losses.sum(dtype=torch.float64)
    sums = torch.stack([loss, targets.sum().double(), errors.square().sum(), errors.abs().sum()])
    return torch.cat([sums, spread_sums(losses, targets)])


def shared_batches(
    split: Rows,
    batch_size: int,
    device: torch.device,
    *,
    max_batches: int | None = None,
    dp_rank: int = 0,
    dp_world_size: int = 1,
) -> Iterator[tuple[Batch, bool]]:
    """This process's batches of a split: number dp_rank, dp_rank + dp_world_size, ... of those of `batch_size` rows
    from its start. `max_batches` limits them over all processes.

    Yields each with whether it counts. All processes get equally many, as sharded models need; a surplus batch does not
    count.
    """
    starts = range(0, len(split), batch_size)[:max_batches]
    for first in range(0, len(starts), dp_world_size):
        position = min(first + dp_rank, len(starts) - 1)
        start = starts[position]
        rows = range(start, min(start + batch_size, len(split)))
        yield on_device(split.batch(rows), device), first + dp_rank == position


def iterate_losses(
    model: nn.Module,
    split: PackedSplit,
    batch_size: int,
    device: torch.device,
    *,
    stride: int | None = None,
    processes: Collectives = ALONE,
) -> Iterator[TokenFigures]:
    """Loss and more of every target of a split in the order of the stream: token 1, 2, ..., num_tokens - 1, each once.

    Yields them batch by batch. Windows begin `stride` tokens apart (null: block_size) and each scores the tokens that
    no earlier one scored: every token but those of the first window then has at least block_size - stride tokens of
    context. The cost grows by block_size / stride. Processes share out the batches.

    Kernels round by the shape of what they are given. So on a processor batches have as many windows as TOKENS_AT_ONCE
    holds, whatever `batch_size` says: a loss has the same bits for any batch size and number of processes.
    """

    def losses(part: list[tuple[int, int]]) -> TokenFigures:
        batch = on_device(split.batch_at(part), device)
        return token_figures(model_logits(model, batch), batch["labels"])

    spans = iter(strided_spans(split.num_tokens, split.block_size, stride or split.block_size))
    rows = -(-TOKENS_AT_ONCE // split.block_size) if device.type == "cpu" else batch_size
    with evaluating(model):
        yield from processes.in_turns(iter(lambda: list(islice(spans, rows)), []), losses)


def strided_spans(num_tokens: int, block_size: int, stride: int) -> Iterable[tuple[int, int]]:
    """(first input, first target that counts) of windows that begin `stride` <= `block_size` tokens apart, until every
    token but the first of the stream has counted as a target once."""
    assert 1 <= stride <= block_size
    scored, start = 1, 0
    while scored < num_tokens:
        yield start, scored
        scored = start + block_size + 1
        start += stride


def on_device(batch: dict[str, NDArray[Any]], device: torch.device) -> Batch:
    """A batch of a split as tensors on `device`."""
    return {name: torch.from_numpy(values).to(device, non_blocking=True) for name, values in batch.items()}


def model_logits(model: nn.Module, batch: Batch) -> torch.Tensor:
    """Logits of a batch."""
    logits: torch.Tensor = model(**model_inputs(batch)).logits
    return logits
