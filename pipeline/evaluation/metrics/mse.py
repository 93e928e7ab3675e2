"""Mean squared error."""

from __future__ import annotations

from typing import Any

import datasets
import evaluate

DESCRIPTION = "Mean squared error (MSE), in the square of the labels' unit."

INPUTS = """
Args:
    predictions: predicted numbers.
    references: true numbers.
Returns:
    mse: mean of (prediction - reference)^2.
"""


class MeanSquaredError(evaluate.Metric):  # type: ignore[misc]
    """The loss that the mean minimizes."""

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

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        return {"mse": float(((predictions - references) ** 2).mean())}
