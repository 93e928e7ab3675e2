"""Words and runs of words of a batch are those that are found text by text."""

from __future__ import annotations

import random
import re
import unicodedata
from itertools import groupby

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.corpus import shingles
from pipeline.corpus.shingles import ngrams, words_of

CHARS = "abAß1_ -.'\u2019\n\t\x00é\u0301中文กิアİ€\u200b\u2028\u3000़ि𠀀😀"
ALONE = re.compile("[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\U00020000-\U0003ffff]")


def words_by_character(text: str) -> list[str]:
    """Runs of word characters, and each of those alone that are written without spaces."""
    words: list[str] = []
    before = "outside"
    for char in text.casefold():
        is_word = bool(re.match(r"\w", char)) or unicodedata.category(char).startswith("M")
        kind = "outside" if not is_word else "alone" if ALONE.match(char) else "inside"
        if kind == before == "inside":
            words[-1] += char
        elif is_word:
            words.append(char)
        before = kind
    return words


def runs_of(words: list[str], size: int) -> list[tuple[str, ...]]:
    return [tuple(words[n : n + size]) for n in range(len(words) - size + 1)] or [tuple(words)] * bool(words)


@pytest.mark.parametrize("limit", [5, 1_000_000])
@settings(max_examples=150, deadline=None)
@given(texts=st.lists(st.text(st.sampled_from(CHARS), max_size=40), max_size=6), size=st.integers(1, 5), data=st.data())
def test_runs_of_words_are_equal_where_they_are_equal_as_tuples(
    limit: int, texts: list[str], size: int, data: st.DataObject
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shingles, "PIECE_CHARS", limit)
        patch.setattr(shingles, "LONG_BYTES", limit + 15)
        words = words_of(texts)
    expected = [words_by_character(text) for text in texts]
    assert words.counts.tolist() == list(map(len, expected))
    runs = [(n, run) for n, one in enumerate(expected) for run in runs_of(one, size)]
    found = ngrams(words, size)
    assert found.document.tolist() == [n for n, _ in runs]
    pairs = set(zip(found.hashes.tolist(), (run for _, run in runs), strict=True))
    assert len(pairs) == len({value for value, _ in pairs}) == len({run for _, run in pairs})
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=len(texts), max_size=len(texts))), dtype=bool)
    alone = words_of([text for text, keep in zip(texts, mask, strict=True) if keep])
    kept = words.keep(mask)
    assert kept.hashes.tolist() == alone.hashes.tolist()
    assert kept.document.tolist() == alone.document.tolist()
    assert kept.num_documents == mask.sum()


def test_letters_around_a_cut_and_words_of_any_length_count() -> None:
    """Words of 1 to 40 letters that differ in their last letter alone; long ones are read in eights."""
    every = ["x" * length + end for length in range(40) for end in "ab"]
    draw = random.Random(0)
    draw.shuffle(every)
    words = words_of([", ".join(every), *every])
    assert len(set(words.hashes.tolist())) == len(every)
    assert words.hashes[: len(every)].tolist() == words.hashes[len(every) :].tolist()


def test_kinds_of_characters_are_those_of_regular_expressions() -> None:
    """All characters but marks, which `re` takes for gaps."""
    chars = [chr(code) for code in range(0x20000) if not 0xD800 <= code < 0xE000]
    plain = [char for char in chars if unicodedata.category(char)[0] != "M" and len(char.casefold()) == 1]
    inside = words_of([f"a{char}b" for char in plain]).counts
    expected = [1 if re.match(r"\w", char) else 2 for char in plain]
    wrong = [char for char, n, m in zip(plain, inside.tolist(), expected, strict=True) if n != m]
    spans = [(key, len(list(group))) for key, group in groupby(wrong, lambda char: ord(char) >> 8)]
    assert all(shingles._kind(ord(char)) == shingles._ALONE for char in wrong), spans
