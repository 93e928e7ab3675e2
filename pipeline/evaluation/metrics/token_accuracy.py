"""Token accuracy from counts."""

from __future__ import annotations

from typing import Any

import datasets
import evaluate

DESCRIPTION = "Token accuracy: the part of the tokens that were the model's likeliest. Depends on the tokenizer."

INPUTS = """
Args:
    correct: tokens predicted exactly in a part of the text (a document, a batch, a source).
    tokens: tokens of that part.
Returns:
    token_accuracy: sum of correct / sum of tokens.
"""


class TokenAccuracy(evaluate.Metric):  # type: ignore[misc]
    """Top-1 accuracy of next-token prediction."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation="",
            inputs_description=INPUTS,
            features=datasets.Features({"correct": datasets.Value("int64"), "tokens": datasets.Value("int64")}),
            format="numpy",
        )

    def _compute(self, correct: Any, tokens: Any) -> dict[str, float]:
        return {"token_accuracy": float(correct.sum() / tokens.sum())}
