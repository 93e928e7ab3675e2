"""MinHash signatures of many texts at once: two texts agree in that part of them which their sets of runs of words have
in common (Broder 1997, "On the resemblance and containment of documents")."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus.shingles import Ngrams

CHUNK_NGRAMS = 32_768
"""Runs of words hashed together: their arrays stay in the processor's cache."""


def signatures(ngrams: Ngrams, num_documents: int, num_hashes: int) -> NDArray[np.uint16]:
    """`num_hashes` numbers a text, of its different runs of words. That of a text without words means nothing.

    Each is the least of the runs' hashes under a permutation `x * factor + term` modulo 2**32, itself hashed to 16
    bits: two that differ look equal once in 65,536.
    """
    minima = np.full((num_hashes, num_documents), np.iinfo(np.uint32).max, np.uint32)
    hashes = (ngrams.hashes >> np.uint64(32)).astype(np.uint32)
    firsts = np.flatnonzero(np.diff(ngrams.document, prepend=-1))
    factors, terms = _permutations(num_hashes)
    hashed = np.empty(min(len(hashes), CHUNK_NGRAMS), np.uint32)
    for start in range(0, len(hashes), CHUNK_NGRAMS):
        chunk = hashes[start : start + CHUNK_NGRAMS]
        out = hashed[: len(chunk)]
        inside = firsts[np.searchsorted(firsts, start, "right") : np.searchsorted(firsts, start + len(chunk))]
        starts = np.concatenate([[0], inside - start])  # a text may reach over several chunks
        owners = ngrams.document[start + starts]
        for number in range(num_hashes):
            np.multiply(chunk, factors[number], out=out)
            np.add(out, terms[number], out=out)
            row = minima[number]
            row[owners] = np.minimum(row[owners], np.minimum.reduceat(out, starts))
    minima ^= minima >> np.uint32(16)
    minima *= np.uint32(0x9E3779B1)
    return np.ascontiguousarray((minima >> np.uint32(16)).astype(np.uint16).T)


@cache
def _permutations(count: int) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """Odd factors and terms: always the same, so that signatures of any two corpora can be compared."""
    draw = np.random.PCG64(20)  # its stream is the same in all versions of numpy
    raw = draw.random_raw(2 * count).astype(np.uint64)
    return (raw[0::2] >> np.uint64(32)).astype(np.uint32) | np.uint32(1), (raw[1::2] >> np.uint64(32)).astype(np.uint32)
