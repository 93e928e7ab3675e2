"""The rules of C4 give datatrove's answers and texts; what follows sees the text that is left."""

from __future__ import annotations

import numpy as np
import pytest
from corpus_values import batch_of
from datatrove.data import Document as DatatroveDocument
from datatrove.pipeline.filters import C4QualityFilter
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.corpus.curate_config import CurateConfig, reasons_to_drop
from pipeline.corpus.documents import Document
from pipeline.corpus.edited_tables import edit_table
from pipeline.corpus.filters.c4_quality import C4Quality, count_sentences

REASONS = {
    "lorem_ipsum": "lorem ipsum to c4_quality",
    "curly_bracket": "curly brackets to c4_quality",
    "too_few_sentences": "fewer sentences than c4_quality",
}
PARTS = [
    *("One two three.", "Is it so? Yes!", "no end", "A b c...", '"Said so."', "Two words.", "Enable JavaScript now."),
    *("Lorem ipsum dolor sit.", "if (a) { b. }", "We use cookies here.", "Fact [1] stands[edit].", "  \t", ""),
    "x" * 30 + " y z.",
]
TEXTS = st.lists(st.sampled_from(PARTS), max_size=12).flatmap(
    lambda lines: st.sampled_from(["\n", "\r\n", "\n\n", " "]).map(lambda end: end.join(lines))
)
FILLER = ["The first of all lines is here.", "The second line is here, too.", "The third line is here. It ends."]


@settings(max_examples=200, deadline=None)
@given(TEXTS, st.sampled_from([0, 2, 5]), st.booleans())
def test_answers_and_texts_are_datatroves(text: str, sentences: int, drops: bool) -> None:
    theirs = C4QualityFilter(
        min_num_sentences=sentences, max_word_length=20, filter_no_terminal_punct=drops, remove_citations=drops,
        filter_javascript=drops, filter_policy=drops, filter_curly_bracket=drops, filter_lorem_ipsum=drops,
    )  # fmt: skip
    names = ("citations", "javascript", "policies", "curly_brackets", "lorem_ipsum")
    ours = C4Quality(
        min_sentences=sentences,
        max_word_length=20,
        need_sentence_end=drops,
        **{f"drop_{name}": drops for name in names},
    )
    document = DatatroveDocument(text=text, id="1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "datatrove.pipeline.filters.c4_filters.split_into_sentences", lambda line, _: [line] * count_sentences(line)
        )
        answer = theirs.filter(document)
    left, reason = ours.edited(text)
    assert reason == (None if answer is True else REASONS[answer[1]])  # type: ignore[index]
    if reason is None:
        assert left == document.text


def test_sentences_are_counted() -> None:
    counts = {"One. Two? Three!": 3, "Version 3.11 is out.": 1, 'He said "No." Then he left': 2, "Wait... what?!": 2}
    assert {text: count_sentences(text) for text in counts} == counts


def test_what_follows_sees_what_is_left() -> None:
    lines = ["Menu", *FILLER, "Login"]
    texts = ["\n".join(lines), "\n".join(FILLER), "Menu\nLogin", "\n".join([*lines, "12345."])]
    filters = CurateConfig.model_validate(
        {"filters": [{"type": "c4_quality", "min_sentences": 2}, {"type": "regex_filter", "pattern": "Menu|Login"},
                     {"type": "max_digit_ratio", "value": 0.0}]}
    ).filters  # fmt: skip
    batch = batch_of([Document(str(number), text, "s", "o", changes=["before"]) for number, text in enumerate(texts)])
    table = batch.to_table()
    found = reasons_to_drop(batch, filters)
    assert found == [None, None, ("c4_quality", "fewer sentences than c4_quality"), None]
    assert batch.texts == ["\n".join(FILLER), "\n".join(FILLER), texts[2], "\n".join(FILLER)]
    stays = np.array([reason is None for reason in found])
    edited, failed, counts = edit_table(table, stays, filters, {})
    assert edited.column("text").to_pylist() == batch.texts
    assert edited.column("changes").to_pylist() == [["before", "curate:c4_quality"], ["before"], ["before"],
                                                    ["before", "curate:c4_quality"]]  # fmt: skip
    assert (failed, counts) == ({}, {"c4_quality": 2})
    assert edit_table(table, stays, filters[1:], {})[0] is table


def test_a_document_of_which_nothing_is_left_is_dropped() -> None:
    batch = batch_of([Document("1", "Menu", "s", "o")])
    assert reasons_to_drop(batch, [C4Quality(min_sentences=0)]) == [("", "no visible characters")]
