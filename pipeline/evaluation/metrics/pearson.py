"""Pearson's correlation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pipeline.evaluation.metrics.base_metric import NumberMetric

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Pearson(NumberMetric, type="pearson"):
    """Covariance of predictions and labels over the product of their standard deviations: 1 where one is a rising line
    over the other, None where either does not vary.

    Pearson 1895, "Note on regression and inheritance in the case of two parents".
    """

    label: ClassVar = "Pearson's r"
    better: ClassVar = "higher"
    has_interval: ClassVar = True
    hub: ClassVar = ("pearsonr", "Pearson's r")

    def compute(self, predictions: NDArray[Any], references: NDArray[Any]) -> float | None:
        x, y = predictions - predictions.mean(), references - references.mean()
        scale = float((x @ x) ** 0.5 * (y @ y) ** 0.5)
        return float(x @ y) / scale if scale else None
