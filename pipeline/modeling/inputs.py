"""Forward passes without transformers' checks of their inputs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from transformers import PreTrainedModel, masking_utils


@contextmanager
def trusted_inputs() -> Iterator[None]:
    """Promise that each row holds one sequence, padded at most on its right where no label is, while the block runs.

    transformers otherwise looks in every forward pass whether a row packs several sequences, and some architectures
    whether it is padded. Each look copies a value from the device, and so waits for all the work queued on it.
    """
    packed, padded = masking_utils.find_packed_sequence_indices, PreTrainedModel.warn_if_padding_and_no_attention_mask
    masking_utils.find_packed_sequence_indices = _nothing
    PreTrainedModel.warn_if_padding_and_no_attention_mask = _nothing
    try:
        yield
    finally:
        masking_utils.find_packed_sequence_indices = packed
        PreTrainedModel.warn_if_padding_and_no_attention_mask = padded


def _nothing(*args: Any, **kwargs: Any) -> None:
    return None
