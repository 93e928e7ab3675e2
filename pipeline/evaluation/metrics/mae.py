"""Mean absolute error."""

from __future__ import annotations

from typing import Any

import datasets
import evaluate
import numpy as np

DESCRIPTION = "Mean absolute error (MAE), in the labels' unit."

INPUTS = """
Args:
    predictions: predicted numbers.
    references: true numbers.
Returns:
    mae: mean of |prediction - reference|.
"""


class MeanAbsoluteError(evaluate.Metric):  # type: ignore[misc]
    """The loss that the median minimizes."""

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
        return {"mae": float(np.abs(predictions - references).mean())}
