"""Macro F1."""

from __future__ import annotations

from typing import Any

import datasets
import evaluate
import numpy as np

DESCRIPTION = (
    "Macro F1 (f1_macro): the mean over classes of the harmonic mean of precision and recall. Rare classes count like "
    "common ones."
)

INPUTS = """
Args:
    predictions: predicted classes, as numbers.
    references: true classes.
Returns:
    f1_macro: mean of 2 * hits / (predicted + true) over the classes that are predicted or true.
"""


class MacroF1(evaluate.Metric):  # type: ignore[misc]
    """van Rijsbergen 1979, "Information Retrieval", chapter 7; averaged over classes."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation="",
            inputs_description=INPUTS,
            features=datasets.Features({"predictions": datasets.Value("int64"), "references": datasets.Value("int64")}),
            format="numpy",
        )

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        classes = np.union1d(predictions, references)
        hits = np.array([((predictions == label) & (references == label)).sum() for label in classes])
        named = np.array([(predictions == label).sum() + (references == label).sum() for label in classes])
        return {"f1_macro": float((2 * hits / named).mean())}
