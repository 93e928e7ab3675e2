"""Hashes of texts: the same one by one, in pieces and all together."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.corpus import repeats
from pipeline.corpus.near_duplicates import distinct
from pipeline.corpus.repeats import text_hash, text_hashes


def by_words(text: str) -> int:
    words = " ".join(text.split()).casefold()
    return int.from_bytes(hashlib.blake2b(words.encode(), digest_size=8).digest(), "little")


@pytest.mark.parametrize("long_chars", [1, 3, 1_000_000])
@settings(max_examples=300, deadline=None)
@given(st.lists(st.text(st.sampled_from("aB \n\t\x1c\x85\x00éß\u3000"), max_size=8), max_size=5))
def test_hashes_leave_out_case_and_white_space_however_they_are_counted(long_chars: int, texts: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(repeats, "LONG_CHARS", long_chars)
        assert [text_hash(text) for text in texts] == list(map(by_words, texts))
        assert text_hashes(texts).tolist() == list(map(by_words, texts))


@given(st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 5)))
def test_distinct_values_are_in_order(values: list[int]) -> None:
    assert distinct(np.array(values, np.uint64)).tolist() == sorted(set(values))
