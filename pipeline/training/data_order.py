"""The order in which training visits its windows: a pure function of seed, epoch and position."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

NUM_ROUNDS = 8

Integers = npt.NDArray[np.int64]
_Words = npt.NDArray[np.uint64]


class DataOrder:
    """An endless sequence of epochs, each a different permutation of `num_windows` windows.

    Any position is found in constant time and memory, however many windows there are: an epoch's permutation
    is a Feistel network keyed with (seed, epoch) on the next even number of bits, walked until it lands on a
    valid index (Black & Rogaway 2002, "Ciphers with arbitrary finite domains"). A global batch k of G
    sequences is positions k*G to (k+1)*G; a batch may span the edge of two epochs.
    """

    def __init__(self, num_windows: int, seed: int) -> None:
        assert num_windows > 0
        self.num_windows = num_windows
        self.seed = seed
        self._half_bits = max(1, ((num_windows - 1).bit_length() + 1) // 2)

    def windows(self, start: int, count: int) -> Integers:
        """Window indices at positions `start` to `start + count`; shape (count,)."""
        positions = np.arange(start, start + count, dtype=np.int64)
        epochs, offsets = np.divmod(positions, self.num_windows)
        found = np.empty(count, dtype=np.int64)
        for epoch in np.unique(epochs):
            chosen = epochs == epoch
            found[chosen] = self._permute(offsets[chosen], int(epoch))
        return found

    def _permute(self, offsets: Integers, epoch: int) -> Integers:
        keys = self._round_keys(epoch)
        values = self._encrypt(offsets.astype(np.uint64), keys)
        while (outside := values >= self.num_windows).any():
            values[outside] = self._encrypt(values[outside], keys)
        return values.astype(np.int64)

    def _encrypt(self, values: _Words, keys: _Words) -> _Words:
        half = np.uint64(self._half_bits)
        mask = np.uint64((1 << self._half_bits) - 1)
        left, right = values >> half, values & mask
        for key in keys:
            left, right = right, left ^ (_mix(right + key) & mask)
        return (left << half) | right

    def _round_keys(self, epoch: int) -> _Words:
        material = hashlib.blake2b(f"data order/{self.seed}/{epoch}".encode(), digest_size=8 * NUM_ROUNDS).digest()
        return np.frombuffer(material, dtype="<u8").astype(np.uint64)


def _mix(values: _Words) -> _Words:
    """SplitMix64's finalizer (Steele, Lea & Flood 2014); wraps around on purpose."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
