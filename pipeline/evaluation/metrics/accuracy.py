"""Accuracy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pipeline.evaluation.metrics.base_metric import LabelMetric

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Accuracy(LabelMetric):
    """The part of the documents whose class is predicted."""

    type: Literal["accuracy"] = "accuracy"
    """Part of the documents that are right."""

    measures: ClassVar = ("classes",)
    style: ClassVar = "percent"
    better: ClassVar = "higher"
    hub: ClassVar = ("accuracy", "Accuracy")

    def compute(self, predictions: NDArray[Any], references: NDArray[Any]) -> float:
        """See `LabelMetric`."""
        return float((predictions == references).mean())
