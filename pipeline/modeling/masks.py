"""Attention masks of rows that hold one sequence each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from transformers import masking_utils


@contextmanager
def one_sequence_a_row() -> Iterator[None]:
    """Promise that position ids count each row from its start, while the block runs.

    transformers otherwise checks in every forward pass whether a row packs several sequences, which copies a value
    from the device and so waits for all work queued on it.
    """
    original = masking_utils.find_packed_sequence_indices
    masking_utils.find_packed_sequence_indices = _no_packed_sequences
    try:
        yield
    finally:
        masking_utils.find_packed_sequence_indices = original


def _no_packed_sequences(position_ids: object) -> None:
    return None
