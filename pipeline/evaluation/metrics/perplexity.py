"""Perplexity from sums of losses."""

from __future__ import annotations

import math
from typing import Any

import datasets
import evaluate

DESCRIPTION = "Perplexity: exp of the mean negative log-likelihood of a token. Depends on the tokenizer."

INPUTS = """
Args:
    nll: negative log-likelihood in nats, summed over a part of the text (a document, a batch, a source).
    tokens: tokens of that part.
Returns:
    loss: mean negative log-likelihood in nats a token.
    perplexity: exp(loss).
"""


class Perplexity(evaluate.Metric):  # type: ignore[misc]
    """Jelinek et al. 1977, "Perplexity: a measure of the difficulty of speech recognition tasks"."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation="",
            inputs_description=INPUTS,
            features=datasets.Features({"nll": datasets.Value("float64"), "tokens": datasets.Value("int64")}),
            format="numpy",
        )

    def _compute(self, nll: Any, tokens: Any) -> dict[str, float]:
        loss = float(nll.sum() / tokens.sum())
        # Beyond this a float64 overflows, and JSON knows no infinity.
        return {"loss": loss, "perplexity": math.exp(min(loss, 700.0))}
