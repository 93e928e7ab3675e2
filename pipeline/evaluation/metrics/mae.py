"""Mean absolute error."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pipeline.evaluation.metrics.base_metric import LabelMetric

if TYPE_CHECKING:
    from numpy.typing import NDArray


class MeanAbsoluteError(LabelMetric, type="mae"):
    """Mean absolute error, in the labels' unit."""

    measures: ClassVar = ("numbers",)
    label: ClassVar = "mean absolute error"
    hub: ClassVar = ("mae", "Mean absolute error")

    def compute(self, predictions: NDArray[Any], references: NDArray[Any]) -> float:
        import numpy as np

        return float(np.abs(predictions - references).mean())
