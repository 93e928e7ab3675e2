"""Mean squared error."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pipeline.evaluation.metrics.base_metric import LabelMetric

if TYPE_CHECKING:
    from numpy.typing import NDArray


class MeanSquaredError(LabelMetric, type="mse"):
    """Mean squared error, in the square of the labels' unit."""

    measures: ClassVar = ("numbers",)
    label: ClassVar = "mean squared error"
    hub: ClassVar = ("mse", "Mean squared error")

    def compute(self, predictions: NDArray[Any], references: NDArray[Any]) -> float:
        return float(((predictions - references) ** 2).mean())
