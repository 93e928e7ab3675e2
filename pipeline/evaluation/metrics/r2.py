"""Coefficient of determination."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pipeline.evaluation.metrics.base_metric import NumberMetric

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Determination(NumberMetric, type="r2"):
    """The part of the variance of the labels that is explained: 0 for their mean, negative for worse than it. None
    where labels do not vary.

    Wright 1921, "Correlation and causation".
    """

    label: ClassVar = "R²"
    better: ClassVar = "higher"
    is_headline: ClassVar = True
    has_interval: ClassVar = True
    hub: ClassVar = ("r_squared", "R2")

    def compute(self, predictions: NDArray[Any], references: NDArray[Any]) -> float | None:
        total = float(((references - references.mean()) ** 2).sum())
        return 1 - float(((predictions - references) ** 2).sum()) / total if total else None
