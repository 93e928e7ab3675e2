"""Token accuracy."""

from __future__ import annotations

from typing import ClassVar, Literal

from pipeline.evaluation.metrics.base_metric import TextMetric, Totals


class TokenAccuracy(TextMetric):
    """The part of the tokens that were the model's likeliest. It depends on the tokenizer."""

    type: Literal["token_accuracy"] = "token_accuracy"
    """Part of the tokens predicted exactly."""

    style: ClassVar = "percent"
    better: ClassVar = "higher"
    hub: ClassVar = ("accuracy", "Next-token accuracy")

    def compute(self, totals: Totals) -> float:
        """See `TextMetric`."""
        return totals.correct / totals.tokens
