"""Accuracy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pipeline.evaluation.metrics.base_metric import LabelMetric

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pipeline.evaluation.intervals import Interval


class Accuracy(LabelMetric, type="accuracy"):
    """The part of the documents whose class is predicted."""

    measures: ClassVar = ("classes",)
    style: ClassVar = "percent"
    better: ClassVar = "higher"
    has_interval: ClassVar = True
    hub: ClassVar = ("accuracy", "Accuracy")

    def compute(self, predictions: NDArray[Any], references: NDArray[Any]) -> float:
        return float((predictions == references).mean())

    def interval(self, predictions: NDArray[Any], references: NDArray[Any]) -> Interval:
        """Wilson's, of independent documents."""
        from pipeline.evaluation.intervals import wilson

        return wilson(int((predictions == references).sum()), len(references))
