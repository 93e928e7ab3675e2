"""Top-5 accuracy."""

from __future__ import annotations

from typing import ClassVar

from pipeline.evaluation.metrics.base_metric import TextMetric, Totals


class TopFiveAccuracy(TextMetric, type="top_5_accuracy"):
    """The part of the tokens that were among the model's five likeliest. It depends on the tokenizer."""

    label: ClassVar = "top-5 accuracy"
    style: ClassVar = "percent"
    better: ClassVar = "higher"
    depends_on_tokenizer: ClassVar = True
    has_interval: ClassVar = True

    def compute(self, totals: Totals) -> float:
        return totals.in_top_5 / totals.tokens
