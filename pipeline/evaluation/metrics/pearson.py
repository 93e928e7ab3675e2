"""Pearson's correlation."""

from __future__ import annotations

from typing import Any

import datasets
import evaluate

DESCRIPTION = "Pearson's correlation of predictions and labels: 1 where one is a rising line over the other."

INPUTS = """
Args:
    predictions: predicted numbers.
    references: true numbers.
Returns:
    pearson: covariance / product of standard deviations; None where either does not vary.
"""


class Pearson(evaluate.Metric):  # type: ignore[misc]
    """Pearson 1895, "Note on regression and inheritance in the case of two parents"."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation="",
            inputs_description=INPUTS,
            features=datasets.Features(
                {"predictions": datasets.Value("float64"), "references": datasets.Value("float64")}
            ),
            format="numpy",
        )

    def _compute(self, predictions: Any, references: Any) -> dict[str, float | None]:
        x, y = predictions - predictions.mean(), references - references.mean()
        scale = float((x @ x) ** 0.5 * (y @ y) ** 0.5)
        return {"pearson": float(x @ y) / scale if scale else None}
