"""Scores of held-out documents by metrics, with their confidence intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.intervals import Interval, bootstrap, percentiles, resampled_sums
from pipeline.evaluation.metrics import FEWEST_DOCUMENTS, LabelMetric, TextMetric, Totals

_FIELDS = list(Totals.__dataclass_fields__)
NLL, TOKENS, BYTES, CHARGED_BITS = (_FIELDS.index(name) for name in ("nll", "tokens", "bytes", "charged_bits"))


def score(rows: NDArray[np.float64], metrics: Sequence[TextMetric]) -> dict[str, Any]:
    """Scores of documents, of each the fields of `Totals` (documents, fields): `loss` in nats a token, the metrics
    asked for, what they were taken over, and `intervals`."""
    totals = Totals.from_row(rows.sum(0))
    figures: dict[str, Callable[[Totals], float | None]] = {
        "loss": mean_loss,
        **{metric.key: metric.compute for metric in metrics},
    }
    counts = {unit: getattr(totals, unit) for unit in ("tokens", "bytes", "documents")}
    found = {}
    if len(rows) >= FEWEST_DOCUMENTS:
        drawn = [Totals.from_row(row) for row in resampled_sums(rows)]
        without = {metric.key for metric in metrics if not metric.has_interval}
        found = {key: percentiles([of(one) for one in drawn]) for key, of in figures.items() if key not in without}
    return {key: of(totals) for key, of in figures.items()} | counts | {"intervals": _known(found)}


def compare_bits(rows: NDArray[np.float64], bits: NDArray[np.float64] | float) -> dict[str, Any]:
    """`bits_per_byte` of a baseline, and `difference`: the interval of the model's less the baseline's.

    `rows` are the model's, as for `score`; `bits` are the baseline's of each document, which pairs the two, or of all
    together. Of a sum alone the noise is not known, and the interval is that of the model's.
    """
    totals = Totals.from_row(rows.sum(0))
    own, sizes = bits_of(rows), rows[:, BYTES]
    difference = None
    if len(rows) >= FEWEST_DOCUMENTS:
        shares = bits if isinstance(bits, np.ndarray) else bits / totals.bytes * sizes
        drawn = resampled_sums(np.column_stack([own - shares, sizes]))
        difference = percentiles((drawn[:, 0] / drawn[:, 1]).tolist())
    return {"bits_per_byte": float(np.sum(bits)) / totals.bytes, "difference": difference}


def bits_of(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """The bits of each document, (documents,), from the fields of its `Totals`."""
    bits: NDArray[np.float64] = rows[:, NLL] / math.log(2) + rows[:, CHARGED_BITS]
    return bits


def loss_of(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean loss of a token of each document, (documents,), likewise."""
    losses: NDArray[np.float64] = rows[:, NLL] / rows[:, TOKENS]
    return losses


def score_labels(
    predictions: NDArray[Any], losses: NDArray[np.float64], references: NDArray[Any], metrics: Sequence[LabelMetric]
) -> dict[str, Any]:
    """Scores of predicted labels, (documents,): the mean of `losses`, the metrics, None where one is not defined, the
    number of documents, and `intervals`."""
    found = {metric.key: metric.interval(predictions, references) for metric in metrics}
    return {
        "loss": float(losses.mean()),
        **score_predictions(predictions, references, metrics),
        "documents": len(references),
        "intervals": _known({"loss": bootstrap(lambda chosen: float(losses[chosen].mean()), len(losses)), **found}),
    }


def score_predictions(
    predictions: NDArray[Any], references: NDArray[Any], metrics: Sequence[LabelMetric]
) -> dict[str, float | None]:
    """Each metric of predicted labels, (n,), against the true ones; None where it is not defined."""
    return {metric.key: metric.compute(predictions, references) for metric in metrics}


def compare_labels(
    predictions: NDArray[Any], others: NDArray[Any], references: NDArray[Any], metric: LabelMetric
) -> Interval | None:
    """The interval of the model's figure less that of a baseline, which predicts `others` of the same
    documents; None where there is none."""

    def difference(chosen: NDArray[np.int64]) -> float | None:
        own, other = (metric.compute(labels[chosen], references[chosen]) for labels in (predictions, others))
        return None if own is None or other is None else own - other

    return bootstrap(difference, len(references)) if metric.has_interval else None


def mean_loss(totals: Totals) -> float:
    """Of a token, in nats."""
    return totals.nll / totals.tokens


def _known(intervals: Mapping[str, Interval | None]) -> dict[str, Interval]:
    return {key: interval for key, interval in intervals.items() if interval is not None}
