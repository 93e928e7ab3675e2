"""The rules of repetition give datatrove's answers, one by one and by bounds."""

from __future__ import annotations

from pydoc_data.topics import topics
from typing import Any

import numpy as np
import pytest
from corpus_values import batch_of
from datatrove.data import Document as DatatroveDocument
from datatrove.pipeline.filters import GopherRepetitionFilter
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.corpus import phrase_bounds
from pipeline.corpus.curate_config import CurateConfig
from pipeline.corpus.documents import Document
from pipeline.corpus.filters import gopher_repetition
from pipeline.corpus.filters.gopher_repetition import GopherRepetition
from pipeline.corpus.phrase_bounds import PhraseBounds, pieces
from pipeline.corpus.text_facts import TextFacts

REASONS = {
    "empty": "empty to gopher_repetition",
    **dict.fromkeys(("dup_para_frac", "dup_para_char_frac"), "more repeated paragraphs than gopher_repetition"),
    **dict.fromkeys(("dup_line_frac", "dup_line_char_frac"), "more repeated lines than gopher_repetition"),
    **dict.fromkeys([f"top_{n}_gram" for n in (2, 3, 4)], "a more frequent phrase than gopher_repetition"),
    **dict.fromkeys([f"duplicated_{n}_n_grams" for n in range(1, 11)], "more repeated phrases than gopher_repetition"),
}
PARTS = [
    "a",
    "aa",
    "ab",
    "b",
    "the",
    "word",
    "é",
    "日本",
    "\U00010348",
    "internationalisation",
    " ",
    "  ",
    "\n",
    "\n\n",
    "\u3000",
    "\x85",
    "",
]
TEXTS = st.lists(st.sampled_from(PARTS), max_size=60).map(" ".join) | st.lists(st.sampled_from(PARTS), max_size=40).map(
    "".join
)


@pytest.fixture(autouse=True)
def _words_between_white_space(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "datatrove.pipeline.filters.gopher_repetition_filter.split_into_words", lambda text, language: text.split()
    )


def ours(texts: list[str], **values: Any) -> list[str | None]:
    one = CurateConfig.model_validate({"filters": [{"type": "gopher_repetition", **values}]}).filters[0]
    assert isinstance(one, GopherRepetition)
    batch = batch_of([Document(str(number), text, "s", "o") for number, text in enumerate(texts)])
    together = list(one.reasons(batch, TextFacts(texts)))
    assert together == [one.reason_of(text) for text in texts]
    return together


def datatroves(texts: list[str], **values: Any) -> list[str | None]:
    one = GopherRepetitionFilter(**values)
    answers = [one.filter(DatatroveDocument(text=text, id="1")) for text in texts]
    return [None if answer is True else REASONS[answer[1]] for answer in answers]


@settings(max_examples=150, deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=8), st.sampled_from([0.05, 0.3, 0.8]))
def test_the_answers_are_datatroves(texts: list[str], share: float) -> None:
    assert ours(texts) == datatroves(texts)
    off = dict.fromkeys(("dup_line_frac", "dup_para_frac", "dup_line_char_frac", "dup_para_char_frac"))
    names = ("max_repeated_paragraphs", "max_repeated_paragraph_chars", "max_repeated_lines", "max_repeated_line_chars")
    limits = {"max_most_frequent": [], "max_repeated_phrases": [{"words": n, "value": share} for n in (1, 3, 5)]}
    theirs = datatroves(texts, **off, top_n_grams=(), dup_n_grams=tuple((n, share) for n in (1, 3, 5)))
    assert ours(texts, **dict.fromkeys(names), **limits) == theirs


def test_the_answers_on_real_text_are_datatroves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phrase_bounds, "PIECE_CHARS", 20_000)
    monkeypatch.setattr(phrase_bounds, "LONG_CHARS", 30_000)
    whole = sorted(topics.values())
    paragraphs = [part for text in whole for part in text.split("\n\n")]
    texts = [
        "",
        *whole,
        *paragraphs[:1500],
        "\n\n".join(whole)[:40_000],
        *(f"{part}{end}" * 3 for part in paragraphs[:100] for end in ("", "\n\n")),
    ]
    found = ours(texts)
    assert found == datatroves(texts)
    assert set(found) == {None, *REASONS.values()}


def test_few_texts_are_counted_one_by_one() -> None:
    """Of those that stay, hardly any: the bounds are near."""
    texts = [text for text in topics.values() if len(text) > 300]
    one = GopherRepetition()
    stay = {number for number, text in enumerate(texts) if one._reason_by_phrases(text, text.split()) is None}
    assert len(stay) > 20
    assert len(stay.intersection(one._bounded(texts)[1].nonzero()[0].tolist())) < 0.3 * len(stay)


@given(st.lists(TEXTS, max_size=8), st.integers(1, 30), st.integers(1, 60))
def test_bounds_are_not_below_what_they_bound(texts: list[str], piece: int, longest: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(phrase_bounds, "PIECE_CHARS", piece)
        patch.setattr(phrase_bounds, "LONG_CHARS", longest)
        parts = [texts[one] for one in pieces(texts)]
    assert [text for part in parts for text in part] == [text for text in texts if len(text) <= longest]
    for part in parts:
        bounds = PhraseBounds(part)
        for n in (1, 2, 5):
            exact = [gopher_repetition._most_frequent(text.split(), n) for text in part]
            most, is_exact = bounds.most_frequent(n)
            assert (most >= exact).all()
            assert (most[is_exact] == np.array(exact)[is_exact]).all()
            repeated = [gopher_repetition._repeated(text.split(), n) for text in part]
            assert (bounds.repeated(n) >= repeated).all()
