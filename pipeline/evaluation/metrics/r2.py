"""Coefficient of determination."""

from __future__ import annotations

from typing import Any

import datasets
import evaluate

DESCRIPTION = (
    "R2: the part of the variance of the labels that is explained; 0 for their mean, negative for worse than it."
)

INPUTS = """
Args:
    predictions: predicted numbers.
    references: true numbers.
Returns:
    r2: 1 - sum of squared errors / sum of squared deviations from the mean; None where labels do not vary.
"""


class Determination(evaluate.Metric):  # type: ignore[misc]
    """Wright 1921, "Correlation and causation"."""

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
        total = float(((references - references.mean()) ** 2).sum())
        return {"r2": 1 - float(((predictions - references) ** 2).sum()) / total if total else None}
