"""Perplexity."""

from __future__ import annotations

import math
from typing import ClassVar

from pipeline.evaluation.metrics.base_metric import TextMetric, Totals

HIGHEST_LOSS = 700.0
"""exp of it is 10^304."""


class Perplexity(TextMetric, type="perplexity"):
    """exp of the mean negative log-likelihood of a token. It depends on the tokenizer.

    Jelinek et al. 1977, "Perplexity: a measure of the difficulty of speech recognition tasks".
    """

    is_headline: ClassVar = True
    depends_on_tokenizer: ClassVar = True
    has_interval: ClassVar = True
    hub: ClassVar = ("perplexity", "Perplexity per token")

    def compute(self, totals: Totals) -> float | None:
        return perplexity_of(totals.nll / totals.tokens)


def perplexity_of(loss: float) -> float | None:
    """Of a mean loss in nats. None of a hopeless one, which no float64 holds: it would be no measured figure."""
    return math.exp(loss) if loss <= HIGHEST_LOSS else None
