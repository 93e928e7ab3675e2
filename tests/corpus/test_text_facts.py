"""What is counted of a whole batch is what counting one by one gives."""

from __future__ import annotations

import re
import sys
import unicodedata

import numpy as np
import pytest
from corpus_values import batch_of
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.corpus import text_facts
from pipeline.corpus.curate_config import CurateConfig, reasons_to_drop
from pipeline.corpus.documents import Document
from pipeline.corpus.filters.base_filter import Filter
from pipeline.corpus.text_facts import TextFacts

TEXTS = st.lists(st.text(st.sampled_from("ab1 .!\n\t\x00é\u0301中٣€\u200b")), max_size=8)


def by_category(text: str) -> tuple[int, int, int]:
    first = [unicodedata.category(char)[0] for char in text]
    return sum(c in "LM" for c in first), first.count("N"), sum(c in "PS" for c in first)


@pytest.mark.parametrize("long_chars", [3, 1_000_000])
@settings(max_examples=200, deadline=None)
@given(texts=TEXTS, data=st.data())
def test_kinds_of_characters_are_those_of_their_unicode_categories(
    long_chars: int, texts: list[str], data: st.DataObject
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_facts, "LONG_CHARS", long_chars)
        facts = TextFacts(texts)
        kinds = facts.kinds
    assert list(zip(kinds.letters, kinds.digits, kinds.symbols, strict=True)) == list(map(by_category, texts))
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=len(texts), max_size=len(texts))), dtype=bool)
    kept = facts.keep(mask)
    assert kept.kinds.visible.tolist() == TextFacts(kept.texts).kinds.visible.tolist()


@settings(max_examples=200, deadline=None)
@given(TEXTS)
def test_filters_of_a_batch_find_what_each_finds_document_by_document(texts: list[str]) -> None:
    config = CurateConfig.model_validate(
        {
            "filters": [
                {"type": "min_chars", "value": 2},
                {"type": "max_chars", "value": 12},
                {"type": "min_words", "value": 2},
                {"type": "min_alphabetic_ratio"},
                {"type": "max_digit_ratio"},
                {"type": "max_symbol_ratio"},
            ]
        }
    )
    documents = [Document(str(n), text, "s", "o") for n, text in enumerate(texts)]
    expected = []
    for document in documents:
        found = ((one.type, one.reason_to_drop(document)) for one in config.filters)
        nothing = None if sum(by_category(document.text)) else ("", "no visible characters")
        expected.append(next((pair for pair in found if pair[1]), nothing))
    assert reasons_to_drop(batch_of(documents), config.filters) == expected


def test_a_filter_is_asked_of_those_alone_that_passed_the_ones_before() -> None:
    asked = []

    class Ask(Filter):
        type: str

        def reason_to_drop(self, document: Document) -> str | None:
            asked.append(document.id)
            return "asked" if document.id == "2" else None

    (first,) = CurateConfig.model_validate({"filters": [{"type": "min_chars", "value": 3}]}).filters
    documents = [Document(str(n), "x" * n, "s", "o") for n in range(1, 5)]
    found = reasons_to_drop(batch_of(documents), [Ask(type="./a.py:Ask"), first, Ask(type="./a.py:Ask")])
    assert asked == ["1", "2", "3", "4", "3", "4"]
    assert [reason and reason[1] for reason in found] == ["shorter than min_chars", "asked", None, None]


def test_white_space_is_the_same_to_split_as_to_a_regular_expression() -> None:
    # Texts are hashed by the former; the split of a text must stay what the latter gave.
    every = "".join(chr(code) for code in range(sys.maxunicode + 1) if not 0xD800 <= code < 0xE000)
    assert "".join(every.split()) == re.sub(r"\s", "", every)
