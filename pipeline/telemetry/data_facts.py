"""What the training data is made of, from its token stream."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.telemetry.facts import DataFacts
from pipeline.telemetry.garbage import find_garbage
from pipeline.tokens.packed_split import PackedSplit
from pipeline.tokens.token_streams import TokenStream

SAMPLED_TOKENS = 2**21
SAMPLED_BYTES = 2**20
MOST_TOKENS = 2**27
"""Longer streams are not looked through for tokens that never occur."""

FEWEST_BYTES = 2**14
"""In less text, pairs of bytes are too rare to tell order from chance."""


def measure_data(split: PackedSplit, tokenizer_file: Path | None) -> DataFacts:
    """Facts of a stream, or of an even sample of it. Order is measured, and garbage looked for, where the tokenizer's
    file is there."""
    ends = np.asarray(split.document_ends[: 2**24]).astype(np.int64)
    own = np.diff(ends, prepend=0) - 1 - len(split.prefix_token_ids)
    samples = list(split.samples(SAMPLED_TOKENS))
    if tokenizer_file is not None and not tokenizer_file.is_file():
        tokenizer_file = None
    text = b"" if tokenizer_file is None else _text(samples, tokenizer_file)
    return DataFacts(
        end_share=len(split.document_ends) / split.num_tokens,
        one_token_share=float(np.mean(own <= 1)) if len(own) else None,
        repeated_share=repeated_share(samples, split.block_size),
        order_gain=order_gain(np.frombuffer(text, np.uint8)) if len(text) >= FEWEST_BYTES else None,
        vocabulary=split.vocab_size,
        unused_tokens=unused_tokens(split.stream, split.vocab_size) if split.num_tokens <= MOST_TOKENS else None,
        garbage=None if tokenizer_file is None else find_garbage(split, tokenizer_file),
    )


def unused_tokens(stream: TokenStream | NDArray[np.unsignedinteger], vocab_size: int) -> int:
    """How many of so many ids a stream does not hold."""
    is_used = np.zeros(vocab_size, dtype=bool)
    for start in range(0, len(stream), SAMPLED_TOKENS):
        is_used[stream[start : start + SAMPLED_TOKENS]] = True
        if is_used.all():
            break
    return int(vocab_size - is_used.sum())


def repeated_share(samples: Sequence[NDArray[np.unsignedinteger]], length: int) -> float | None:
    """Of the windows of so many ids in the samples, those that are equal to one before; None of no whole window."""
    seen: set[bytes] = set()
    count = 0
    for ids in samples:
        for start in range(0, len(ids) - length + 1, length):
            seen.add(ids[start : start + length].tobytes())
            count += 1
    return 1 - len(seen) / count if count else None


def order_gain(text: NDArray[np.uint8]) -> float | None:
    """1 - H(byte | byte before) / H(byte), of empirical frequencies; None where all bytes are one."""
    pairs = np.bincount(text[:-1].astype(np.int64) * 256 + text[1:], minlength=2**16).reshape(256, 256)
    single = _entropy(pairs.sum(0))
    if single == 0:
        return None
    return 1 - (_entropy(pairs.ravel()) - _entropy(pairs.sum(1))) / single


def _entropy(counts: NDArray[np.int64]) -> float:
    """In nats."""
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())


def _text(samples: Sequence[NDArray[np.unsignedinteger]], tokenizer_file: Path) -> bytes:
    from tokenizers import Tokenizer

    decode: Callable[[list[int]], str] = Tokenizer.from_file(str(tokenizer_file)).decode
    each = SAMPLED_BYTES // len(samples)
    # A token has a byte or more, but for few: so many of them are enough.
    return b"".join(decode(ids[:each].tolist()).encode()[:each] for ids in samples)
