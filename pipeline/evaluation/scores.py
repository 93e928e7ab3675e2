"""Scores of held-out documents by metrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from pipeline.evaluation.metrics import LabelMetric, TextMetric, Totals


def score(parts: Sequence[Totals], metrics: Sequence[TextMetric]) -> dict[str, Any]:
    """Scores of all parts together: `loss` in nats a token, the metrics asked for, and what they were taken over."""
    totals = Totals.of(parts)
    scores = {metric.key: metric.compute(totals) for metric in metrics}
    counts = {unit: getattr(totals, unit) for unit in ("tokens", "bytes", "documents")}
    return {"loss": totals.nll / totals.tokens, **scores, **counts}


def score_predictions(
    predictions: NDArray[Any], references: NDArray[Any], metrics: Sequence[LabelMetric]
) -> dict[str, float | None]:
    """Each metric of predicted labels, (n,), against the true ones; None where it is not defined."""
    return {metric.key: metric.compute(predictions, references) for metric in metrics}
