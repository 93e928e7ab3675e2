"""The order in which training visits its windows: a pure function of seed, epoch and position."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pipeline.tokens.mixing import Epoch, MixedSource

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

    def __init__(self, num_windows: int, seed: int, stream: str = "") -> None:
        """Orders of one seed and several `stream`s have nothing to do with each other."""
        assert num_windows > 0
        self.num_windows = num_windows
        self.seed = seed
        self._stream = stream
        self._half_bits = max(1, ((num_windows - 1).bit_length() + 1) // 2)

    def windows(self, start: int, count: int) -> Integers:
        """Window indices at positions `start` to `start + count`; shape (count,)."""
        positions = np.arange(start, start + count, dtype=np.int64)
        epochs, offsets = np.divmod(positions, self.num_windows)
        found = np.empty(count, dtype=np.int64)
        for epoch in np.unique(epochs):
            chosen = epochs == epoch
            found[chosen] = self.permute(offsets[chosen], int(epoch))
        return found

    def permute(self, offsets: Integers, epoch: int) -> Integers:
        """Window indices at positions of one epoch, counted from its beginning."""
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
        material = hashlib.blake2b(
            f"data order/{self.seed}/{self._stream}{epoch}".encode(), digest_size=8 * NUM_ROUNDS
        ).digest()
        return np.frombuffer(material, dtype="<u8").astype(np.uint64)


class MixtureOrder(DataOrder):
    """An endless sequence of epochs, in each of which the windows of every source come as often as its draws say, all
    in another order.

    The draws of a source go round its windows in one fixed order, from epoch to epoch: so in any epoch each comes
    floor or ceil(draws / windows) times, and of a source with fewer draws than windows none comes again before all did.
    Where the draws of an epoch are whole rounds, that order does not matter, and is that of the windows: if all sources
    are drawn once, this is a `DataOrder` of all windows.
    """

    def __init__(self, sources: Sequence[MixedSource], seed: int) -> None:
        super().__init__(sum(source.draws for source in sources), seed)
        self._sources = sources
        self._ends = np.cumsum([source.draws for source in sources])
        self._orders = [
            DataOrder(source.windows, seed, f"{source.name}/") if source.draws % source.windows else None
            for source in sources
        ]

    def windows(self, start: int, count: int) -> Integers:
        epochs = np.arange(start, start + count, dtype=np.int64) // self.num_windows
        places = super().windows(start, count)
        numbers = np.searchsorted(self._ends, places, side="right")
        found = np.empty(count, dtype=np.int64)
        for number in np.unique(numbers):
            chosen = numbers == number
            source, order = self._sources[number], self._orders[number]
            before = self._ends[number] - source.draws
            offsets = (epochs[chosen] * source.draws + places[chosen] - before) % source.windows
            found[chosen] = source.first_window + (offsets if order is None else order.permute(offsets, 0))
        return found


def order_of(epoch: Epoch, seed: int) -> DataOrder:
    """The order of a training."""
    return MixtureOrder(epoch.sources, seed) if epoch.sources else DataOrder(epoch.windows, seed)


def _mix(values: _Words) -> _Words:
    """SplitMix64's finalizer (Steele, Lea & Flood 2014); wraps around on purpose."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
