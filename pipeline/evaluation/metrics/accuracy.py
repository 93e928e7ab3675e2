"""Accuracy."""

from __future__ import annotations

from typing import Any

import datasets
import evaluate

DESCRIPTION = "Accuracy: the part of the documents whose class is predicted."

INPUTS = """
Args:
    predictions: predicted classes, as numbers.
    references: true classes.
Returns:
    accuracy: correct predictions / all.
"""


class Accuracy(evaluate.Metric):  # type: ignore[misc]
    """The part of predictions that are right."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation="",
            inputs_description=INPUTS,
            features=datasets.Features({"predictions": datasets.Value("int64"), "references": datasets.Value("int64")}),
            format="numpy",
        )

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        return {"accuracy": float((predictions == references).mean())}
