"""Mean absolute error."""

from typing import ClassVar

from pipeline.evaluation.metrics.base_metric import MeanError


class MeanAbsoluteError(MeanError, type="mae"):
    """Mean absolute error, in the labels' unit."""

    power: ClassVar = 1
    label: ClassVar = "mean absolute error"
    hub: ClassVar = ("mae", "Mean absolute error")
