"""Macro F1."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pipeline.evaluation.metrics.base_metric import LabelMetric

if TYPE_CHECKING:
    from numpy.typing import NDArray


class MacroF1(LabelMetric, type="f1_macro"):
    """The mean over classes of the harmonic mean of precision and recall: rare classes count like common ones. Classes
    that are neither predicted nor true are left out.

    van Rijsbergen 1979, "Information Retrieval", chapter 7; averaged over classes.
    """

    measures: ClassVar = ("classes",)
    label: ClassVar = "macro F1"
    better: ClassVar = "higher"
    is_headline: ClassVar = True
    has_interval: ClassVar = True
    hub: ClassVar = ("f1", "Macro F1")

    def compute(self, predictions: NDArray[Any], references: NDArray[Any]) -> float:
        import numpy as np

        size = max(predictions.max(), references.max()) + 1
        hits, predicted, true = (
            np.bincount(labels, minlength=size)
            for labels in (predictions[predictions == references], predictions, references)
        )
        is_named = predicted + true > 0
        return float((2 * hits[is_named] / (predicted + true)[is_named]).mean())
