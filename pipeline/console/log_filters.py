"""Words of libraries that would mislead people, kept from them."""

from __future__ import annotations

import logging
import os
import sys
from functools import partial

NOISE = {
    # Advises another package for 4-bit products on a CPU, to everybody who has bitsandbytes.
    "bitsandbytes.backends.cpu.ops": "Failed to load CPU gemm_4bit_forward",
    # Windows are padded on their right alone, where nothing is a target: causal models need no mask for that.
    "transformers.modeling_utils": "We strongly recommend passing in an `attention_mask`",
}
"""Beginnings of messages, by the logger that gives them."""


def quiet_libraries() -> None:
    """Drop the messages of NOISE. Without a terminal, drop the progress bars of Hugging Face's libraries."""
    for name, beginning in NOISE.items():
        logging.getLogger(name).addFilter(partial(_says_more, beginning))
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


def _says_more(beginning: str, record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(beginning)
