"""Predict the number that is a document's label."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pipeline.errors import BadDataError
from pipeline.evaluation.metrics.mae import MeanAbsoluteError
from pipeline.evaluation.metrics.mse import MeanSquaredError
from pipeline.evaluation.metrics.pearson import Pearson
from pipeline.evaluation.metrics.r2 import Determination
from pipeline.tasks.base_labelled import Labelled
from pipeline.tasks.task_words import DOCUMENTS, TaskWords

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from transformers import PreTrainedConfig

    from pipeline.evaluation.loss_by_hand import LossByHand
    from pipeline.evaluation.losses import Batch, LossSums
    from pipeline.tokens.labelled_split import LabelledDocuments, LabelledSplit
    from pipeline.training.train_config import TrainConfig

METRICS = (MeanSquaredError(), MeanAbsoluteError(), Determination(), Pearson())


def _smaller_error(own: float, other: float) -> str:
    return f"the model's is {abs(1 - own / other):.1%} {'smaller' if own < other else 'larger'}" if other else ""


class Regression(Labelled, type="regression"):
    """Predict a number, in the unit of the labels. A label of a batch is float32; NaN is no target."""

    predicts: ClassVar = "numbers"
    metrics: ClassVar = METRICS
    loss_settings: ClassVar = ("regression_loss", "huber_delta")
    label_dtype: ClassVar = "float32"
    outputs: ClassVar = ("regression", 1)
    words: ClassVar = TaskWords(
        noun="regression model",
        target="labelled document",
        window="document",
        loss="loss (error of a document)",
        figures=(*(metric.figure for metric in METRICS), DOCUMENTS),
        main=METRICS[0].figure,
        verdict=_smaller_error,
        hub_tag="text-regression",
        hub_task=("text-classification", "Text regression"),
        limitation="It gives every text a number, also one to which none applies.",
    )

    def choose(self, labels: Sequence[str | None], classes: Sequence[str] | None, split: str) -> LabelledDocuments:
        """The documents that have a label, all of which must be finite numbers; else raises BadDataError."""
        import numpy as np

        from pipeline.tokens.labelled_split import LabelledDocuments, count_dropped

        kept = {index: label for index, label in enumerate(labels) if label is not None}
        targets = np.array([_number(label, index, split) for index, label in kept.items()], dtype=np.float64)
        return LabelledDocuments(np.array([*kept], dtype=np.int64), targets, count_dropped(labels, {}))

    def describe(self, found: LabelledDocuments, classes: Sequence[str] | None) -> dict[str, Any]:
        """Mean, standard deviation and range."""
        values = found.targets
        return {name: float(getattr(values, name)()) for name in ("mean", "std", "min", "max")}

    def doubts(self, labels: Iterable[str | None], train: Mapping[str, Any]) -> list[str]:
        """Warn about labels far from unit scale. A new head predicts near 0 and needs long to reach large numbers."""
        mean, std = train["mean"], train["std"]
        if abs(mean) <= 10 and 0.1 <= std <= 10:
            return []
        return [
            f"the labels have mean {mean:.3g} and standard deviation {std:.3g}, and are not rescaled; training takes "
            "long unless both are near 1: write them in other units"
        ]

    def start_loss(self, logits: torch.Tensor, ids: torch.Tensor) -> tuple[torch.Tensor, float | None]:
        """The squared error of ones."""
        import torch
        from torch.nn import functional

        return functional.mse_loss(logits, torch.ones_like(logits)), None

    def loss_sums(self, output: Any, batch: Batch, config: TrainConfig) -> LossSums:
        """The squared error or Huber's loss of every label."""
        from pipeline.evaluation.losses import LossSums, regression_losses

        loss = regression_losses(output.logits, batch["labels"], config.huber_delta_used).sum()
        return LossSums(loss, {"loss": loss.detach()})

    def ignorant_loss(self, model_config: PreTrainedConfig, validation: LabelledSplit, config: TrainConfig) -> float:
        """That of always saying 0, as a fresh head does."""
        return _constant_loss(validation.targets, 0.0, config.huber_delta_used)

    def frequency_loss(self, train: LabelledSplit, validation: LabelledSplit, config: TrainConfig) -> float:
        """That of always saying the number that costs least on the training labels."""
        delta = config.huber_delta_used
        return _constant_loss(validation.targets, best_constant(train.targets, delta), delta)

    def loss_by_hand(self, outputs: NDArray[Any], labels: NDArray[Any], config: TrainConfig) -> LossByHand:
        from pipeline.evaluation.loss_by_hand import regression_by_hand

        return regression_by_hand(outputs, labels, config.huber_delta_used)

    def target_losses(self, logits: torch.Tensor, batch: Batch, config: TrainConfig) -> torch.Tensor:
        from pipeline.evaluation.losses import regression_losses

        return regression_losses(logits, batch["labels"], config.huber_delta_used)

    def is_target(self, labels: torch.Tensor) -> torch.Tensor:
        return ~labels.isnan()

    def validation_sums(self, logits: torch.Tensor, batch: Batch, config: TrainConfig) -> torch.Tensor:
        from pipeline.evaluation.losses import number_sums

        return number_sums(logits, batch["labels"], config.huber_delta_used)

    def validation_means(self, sums: torch.Tensor) -> dict[str, float]:
        """The loss of a document, its standard error, the squared error and the absolute error."""
        from pipeline.evaluation.losses import standard_error

        loss, count, squared, absolute, *spread = sums.tolist()
        error = standard_error(loss, count, spread)
        return {"loss": loss / count, "loss_error": error, "mse": squared / count, "mae": absolute / count}

    def predictions(self, logits: NDArray[np.float64]) -> NDArray[np.float64]:
        """The predicted number."""
        return logits[:, 0]

    def losses(self, logits: NDArray[np.float64], targets: NDArray[Any]) -> NDArray[np.float64]:
        """The squared error."""
        squared: NDArray[np.float64] = (logits[:, 0] - targets) ** 2
        return squared

    def baseline(self, train: LabelledSplit, names: Mapping[int, str]) -> tuple[str, float, str]:
        """The mean of the training split."""
        mean = float(train.targets.mean())
        return "mean", mean, f"always {mean:.6g}, the mean of the training labels"


def best_constant(targets: NDArray[np.number], huber_delta: float | None) -> float:
    """The number with the least mean loss to the targets: their mean, or where Huber's gradient is 0, by bisection."""
    import numpy as np

    if huber_delta is None:
        return float(targets.mean())
    low, high = float(targets.min()), float(targets.max())
    for _ in range(100):
        middle = (low + high) / 2
        is_low = np.clip(targets - middle, -huber_delta, huber_delta).sum() > 0
        low, high = (middle, high) if is_low else (low, middle)
    return (low + high) / 2


def _constant_loss(targets: NDArray[np.number], constant: float, huber_delta: float | None) -> float:
    import numpy as np

    errors = np.abs(targets.astype(np.float64) - constant)
    if huber_delta is None:
        return float(np.mean(errors**2))
    near = np.minimum(errors, huber_delta)
    return float(np.mean(near * (errors - near / 2)))


def _number(label: str, index: int, split: str) -> float:
    try:
        value = float(label)
    except ValueError:
        value = math.nan
    if "_" in label or not math.isfinite(value):  # Python reads 1_000 as a number
        raise BadDataError(
            f"pack: the label {label[:60]!r} of document {index + 1} of the {split} split is no finite number; mend "
            "it, or set model.task: classification"
        )
    return value
