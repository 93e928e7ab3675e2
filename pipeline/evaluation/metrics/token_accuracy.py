"""Token accuracy."""

from __future__ import annotations

from typing import ClassVar

from pipeline.evaluation.metrics.base_metric import TextMetric, Totals


class TokenAccuracy(TextMetric, type="token_accuracy"):
    """The part of the tokens that were the model's likeliest. It depends on the tokenizer."""

    style: ClassVar = "percent"
    better: ClassVar = "higher"
    depends_on_tokenizer: ClassVar = True
    has_interval: ClassVar = True
    hub: ClassVar = ("accuracy", "Next-token accuracy")

    def compute(self, totals: Totals) -> float:
        return totals.correct / totals.tokens
