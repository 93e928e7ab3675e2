"""Perplexity."""

from __future__ import annotations

import math
from typing import ClassVar

from pipeline.evaluation.metrics.base_metric import TextMetric, Totals


class Perplexity(TextMetric, type="perplexity"):
    """exp of the mean negative log-likelihood of a token. It depends on the tokenizer.

    Jelinek et al. 1977, "Perplexity: a measure of the difficulty of speech recognition tasks".
    """

    is_headline: ClassVar = True
    depends_on_tokenizer: ClassVar = True
    has_interval: ClassVar = True
    hub: ClassVar = ("perplexity", "Perplexity per token")

    def compute(self, totals: Totals) -> float:
        return perplexity_of(totals.nll / totals.tokens)


def perplexity_of(loss: float) -> float:
    """Of a mean loss in nats. A hopeless one is still a number: a float64 overflows, and JSON knows no infinity."""
    return math.exp(min(loss, 700.0))
