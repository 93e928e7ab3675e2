"""Bits per byte."""

from __future__ import annotations

import math
from typing import ClassVar

from pipeline.evaluation.metrics.base_metric import TextMetric, Totals


class BitsPerByte(TextMetric, type="bits_per_byte"):
    """Bits in which an ideal coder with the model's probabilities stores a UTF-8 byte of the text: comparable between
    tokenizers and with compressors.

    Gao et al. 2020, "The Pile: an 800GB dataset of diverse text for language modeling", section 3.1.
    """

    label: ClassVar = "bits per byte"
    has_interval: ClassVar = True
    hub: ClassVar = ("bits_per_byte", "Bits per byte")

    def compute(self, totals: Totals) -> float:
        return totals.nll / (math.log(2) * totals.bytes) + totals.charged_bits / totals.bytes
