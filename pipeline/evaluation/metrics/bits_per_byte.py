"""Bits per byte from sums of losses."""

from __future__ import annotations

import math
from typing import Any

import datasets
import evaluate

DESCRIPTION = (
    "Bits per byte: bits in which an ideal coder with the model's probabilities stores a UTF-8 byte of the text. "
    "Comparable between tokenizers and with compressors."
)

INPUTS = """
Args:
    nll: negative log-likelihood in nats, summed over a part of the text (a document, a batch, a source).
    bytes: UTF-8 bytes of that part.
Returns:
    bits_per_byte: sum of nll / (ln 2 * sum of bytes).
"""


class BitsPerByte(evaluate.Metric):  # type: ignore[misc]
    """Gao et al. 2020, "The Pile: an 800GB dataset of diverse text for language modeling", section 3.1."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation="",
            inputs_description=INPUTS,
            features=datasets.Features({"nll": datasets.Value("float64"), "bytes": datasets.Value("int64")}),
            format="numpy",
        )

    def _compute(self, nll: Any, bytes: Any) -> dict[str, float]:
        return {"bits_per_byte": float(nll.sum() / (math.log(2) * bytes.sum()))}
