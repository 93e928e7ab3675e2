"""Hashes in a sorted file are found, and no others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.corpus import hash_index
from pipeline.corpus.hash_index import HashIndex


@pytest.mark.parametrize("most_bits", [8, 64, 1 << 27])
@pytest.mark.parametrize("number", [0, 1, 2, 5_000])
def test_what_is_found_is_what_a_set_holds(
    tmp_path: Path, number: int, most_bits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hash_index, "MOST_BITS", most_bits)
    monkeypatch.setattr(hash_index, "CHUNK", 700)
    draw = np.random.default_rng(number)
    hashes = np.sort(np.repeat(draw.integers(0, 2**64, number, dtype=np.uint64), draw.integers(1, 4, number)))
    for part in range(3):
        hashes[part * number // 3 : (part + 1) * number // 3 if part < 2 else None].tofile(tmp_path / f"part{part}")
    HashIndex.gather([tmp_path / f"part{part}" for part in range(3)], tmp_path)
    values = np.concatenate([draw.choice(hashes, min(number, 100)), draw.integers(0, 2**64, 1_000, dtype=np.uint64)])
    which, places = HashIndex.open(tmp_path).find(values)
    every = hashes.tolist()
    expected = [(n, every.index(value)) for n, value in enumerate(values.tolist()) if value in set(every)]
    assert list(zip(which.tolist(), places.tolist(), strict=True)) == expected
