"""The loss of a batch and its gradient by their formulas, in float64 and without autograd."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.tokens.packed_split import IGNORED_LABEL

Formula = Literal["cross_entropy", "squared_error", "huber"]

Floats = NDArray[np.float64]

NUM_ALTERNATIVES = 3
NUM_EXAMPLES = 3


@dataclass(frozen=True)
class TargetLoss:
    """One target. `index` is its place among the labels."""

    index: tuple[int, ...]
    target: float
    """Number of the right token or class, or the wanted number."""
    output: float
    """Its logit, or the predicted number."""
    loss: float
    gradient: float
    """d(objective)/d(output)."""
    log_normalizer: float | None = None
    """Logarithm of the sum of the exponentials of all logits."""
    likeliest: list[tuple[int, float]] = field(default_factory=list)
    """The likeliest tokens or classes with their probabilities."""


@dataclass(frozen=True)
class LossByHand:
    """Means over the targets of a batch."""

    formula: Formula
    settings: dict[str, float]
    """What the formula has besides the outputs, by the names of `train`."""
    num_targets: int
    loss: float
    """The plain cross-entropy or error."""
    parts: dict[str, float]
    """What the objective has on top of it."""
    gradient: Floats
    """d(objective)/d(outputs), in the shape of the outputs."""
    examples: list[TargetLoss]
    """The target with the smallest loss, the one in the middle, and that with the largest."""

    @property
    def objective(self) -> float:
        """What training makes small."""
        return self.loss + sum(self.parts.values())


def cross_entropy_by_hand(
    logits: Floats, labels: NDArray[np.int64], *, label_smoothing: float, z_loss_coef: float
) -> LossByHand:
    """Of logits (..., C) and the numbers of the right classes (...), of which -100 is none.

    With p the softmax and y the one-hot target, d(loss)/d(logits) is (p - y) / targets (Bishop 2006, "Pattern
    Recognition and Machine Learning"). Label smoothing e puts (1 - e) y + e / C in the place of y (Szegedy et al.
    2016). The z-loss, log(Z)^2, adds 2 log(Z) p times its coefficient (Chowdhery et al. 2022).
    """
    is_target = labels != IGNORED_LABEL
    rows, targets = logits[is_target], labels[is_target]
    count, classes = rows.shape
    largest = rows.max(-1, keepdims=True)
    exponentials = np.exp(rows - largest)
    sums = exponentials.sum(-1, keepdims=True)
    log_normalizer = (np.log(sums) + largest)[:, 0]
    probabilities = exponentials / sums
    of_target = rows[np.arange(count), targets]
    losses = log_normalizer - of_target

    wanted = np.full_like(rows, label_smoothing / classes)
    wanted[np.arange(count), targets] += 1 - label_smoothing
    gradients = probabilities - wanted
    parts, settings = {}, {}
    if label_smoothing:
        uniform = log_normalizer - rows.mean(-1)
        parts["label_smoothing"] = float(label_smoothing * (uniform - losses).mean())
        settings["label_smoothing_factor"] = label_smoothing
    if z_loss_coef:
        parts["z_loss"] = float(z_loss_coef * (log_normalizer**2).mean())
        settings["z_loss_coef"] = z_loss_coef
        gradients += 2 * z_loss_coef * log_normalizer[:, None] * probabilities
    gradients /= count
    places = np.argwhere(is_target)
    examples = []
    for one in _spread(losses):
        likeliest = np.argsort(-probabilities[one], kind="stable")[:NUM_ALTERNATIVES]
        examples.append(
            TargetLoss(
                tuple(places[one].tolist()),
                int(targets[one]),
                float(of_target[one]),
                float(losses[one]),
                float(gradients[one, targets[one]]),
                float(log_normalizer[one]),
                [(int(number), float(probabilities[one, number])) for number in likeliest],
            )
        )
    gradient = np.zeros_like(logits)
    gradient[is_target] = gradients
    return LossByHand("cross_entropy", settings, count, float(losses.mean()), parts, gradient, examples)


def regression_by_hand(outputs: Floats, labels: NDArray[Any], huber_delta: float | None) -> LossByHand:
    """Of predicted numbers (B, 1) and wanted ones (B,), of which NaN is none.

    d(loss)/d(output) is 2 (output - wanted) / targets. In Huber's loss (Huber 1964) it is the error, cut at the delta.
    """
    is_target = ~np.isnan(labels)
    predicted, wanted = outputs[is_target, 0], labels[is_target].astype(np.float64)
    errors, count = predicted - wanted, len(wanted)
    if huber_delta is None:
        formula: Formula = "squared_error"
        losses, gradients = errors**2, 2 * errors / count
    else:
        formula, sizes = "huber", np.abs(errors)
        losses = np.where(sizes <= huber_delta, errors**2 / 2, huber_delta * (sizes - huber_delta / 2))
        gradients = np.clip(errors, -huber_delta, huber_delta) / count
    places = np.argwhere(is_target)
    examples = [
        TargetLoss(
            index=tuple(places[one].tolist()),
            target=float(wanted[one]),
            output=float(predicted[one]),
            loss=float(losses[one]),
            gradient=float(gradients[one]),
        )
        for one in _spread(losses)
    ]
    gradient = np.zeros_like(outputs)
    gradient[is_target, 0] = gradients
    settings = {} if huber_delta is None else {"huber_delta": huber_delta}
    return LossByHand(formula, settings, count, float(losses.mean()), {}, gradient, examples)


def _spread(losses: Floats) -> list[int]:
    """Places of the smallest loss, of that in the middle, and of the largest; fewer where there are not so many."""
    order = np.argsort(losses, kind="stable").tolist()
    number = min(NUM_EXAMPLES, len(order))
    return [order[math.floor(part * (len(order) - 1) / max(1, number - 1))] for part in range(number)]
