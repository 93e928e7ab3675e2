"""Frequencies of pairs of tokens."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.baselines.base_baseline import Coded, Texts, bits_of_documents, count_ids, walk
from pipeline.tokens.packed_split import PackedSplit

MAX_TOKENS = 2**26
"""Pairs are counted in the last 67 million tokens of the training stream: that bounds time and memory."""


def bigram(texts: Texts) -> dict[str, Coded]:
    """A model that knows only which token follows which in the training stream, by interpolated Witten-Bell smoothing.

    p(w | v) = (c(v w) + T(v) p(w)) / (c(v) + T(v)), where c counts, T(v) is the number of different tokens that follow
    v, and p(w) is that of `unigram`. Witten and Bell 1991, "The zero-frequency problem"; interpolated as in Chen and
    Goodman 1999.
    """
    train, size = texts.train, texts.train.vocab_size
    alone = count_ids(train) + 1
    pairs, counts = _count_pairs(train)
    followers = np.bincount(pairs // size, minlength=size)
    total = np.bincount(pairs // size, weights=counts, minlength=size)

    def bits_of(before: NDArray[np.int64], ids: NDArray[np.int64]) -> NDArray[np.float64]:
        chance = alone[ids] / alone.sum()
        code = before * size + ids
        place = np.searchsorted(pairs, code).clip(max=len(pairs) - 1)
        seen = np.where(pairs[place] == code, counts[place], 0)
        known = (before >= 0) & (total[before] > 0)
        together = (seen + followers[before] * chance) / np.where(known, total[before] + followers[before], 1)
        bits: NDArray[np.float64] = -np.log2(np.where(known, together, chance))
        return bits

    some = f", of its last {MAX_TOKENS:,} tokens" if train.num_tokens > MAX_TOKENS else ""
    what = f"each token by the one before it, as often as in the training stream{some} (Witten-Bell smoothing)"
    return {"bigram": Coded(bits_of_documents(texts, bits_of), what)}


def _count_pairs(split: PackedSplit) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The pairs of neighbours in a stream as first * vocab_size + second, rising, and how often each occurs."""
    pairs = counts = np.zeros(0, dtype=np.int64)
    for before, ids, _, is_counted in walk(split, max(0, split.num_tokens - MAX_TOKENS)):
        chosen = is_counted & (before >= 0)
        found, numbers = np.unique(before[chosen] * split.vocab_size + ids[chosen], return_counts=True)
        pairs, places = np.unique(np.concatenate([pairs, found]), return_inverse=True)
        counts = np.bincount(places, weights=np.concatenate([counts, numbers])).astype(np.int64)
    return pairs, counts
