"""Signatures estimate how much two sets have in common, as well as theory allows."""

import numpy as np
import pytest

from pipeline.corpus import minhash
from pipeline.corpus.minhash import signatures
from pipeline.corpus.shingles import Ngrams, ngrams, words_of


def sets_alike(similarity: float, size: int, pairs: int, seed: int) -> tuple[Ngrams, float]:
    """Pairs of sets of random hashes, and what each pair has in common of all that it has."""
    draw = np.random.default_rng(seed)
    shared = round(2 * size * similarity / (1 + similarity))
    common = np.repeat(draw.integers(0, 2**64, (pairs, 1, shared), dtype=np.uint64), 2, axis=1)
    own = draw.integers(0, 2**64, (pairs, 2, size - shared), dtype=np.uint64)
    hashes = np.concatenate([common, own], axis=2).reshape(-1)
    return Ngrams(hashes, np.repeat(np.arange(2 * pairs, dtype=np.int32), size)), shared / (2 * size - shared)


@pytest.mark.parametrize("size", [12, 300])
@pytest.mark.parametrize("similarity", [0.3, 0.5, 0.7, 0.9])
def test_estimates_have_the_mean_and_the_spread_of_theory(similarity: float, size: int) -> None:
    pairs, num_hashes = 150, 216
    sets, true = sets_alike(similarity, size, pairs, seed=1)
    found = signatures(sets, 2 * pairs, num_hashes)
    estimates = (found[0::2] == found[1::2]).mean(axis=1)
    spread = (true * (1 - true) / num_hashes) ** 0.5
    assert abs(estimates.mean() - true) < 4 * spread / pairs**0.5
    # The standard deviation of 150 values is itself off by a factor of 1 / sqrt(300), four times over.
    assert 0.77 < estimates.std() / spread < 1.23


def test_a_signature_depends_on_the_set_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["a b c d", "", "One, two; three", "b c d a b c", "word " * 50]
    runs = ngrams(words_of(texts), 2)
    whole = signatures(runs, len(texts), 50)
    assert whole.shape == (5, 50)
    monkeypatch.setattr(minhash, "CHUNK_NGRAMS", 3)
    assert np.array_equal(signatures(runs, len(texts), 50), whole)
    other = signatures(ngrams(words_of(["c d, A B C"]), 2), 1, 50)[0]  # c d, d a, a b, b c
    assert np.array_equal(other, signatures(ngrams(words_of(["d a b c d"]), 2), 1, 50)[0])
    assert not np.array_equal(other, whole[0])


def test_longer_signatures_begin_as_shorter_ones() -> None:
    runs = ngrams(words_of(["a text of some words"]), 2)
    assert np.array_equal(signatures(runs, 1, 100)[:, :40], signatures(runs, 1, 40))
