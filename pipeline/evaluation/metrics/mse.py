"""Mean squared error."""

from typing import ClassVar

from pipeline.evaluation.metrics.base_metric import MeanError


class MeanSquaredError(MeanError, type="mse"):
    """Mean squared error, in the square of the labels' unit."""

    power: ClassVar = 2
    label: ClassVar = "mean squared error"
    hub: ClassVar = ("mse", "Mean squared error")
