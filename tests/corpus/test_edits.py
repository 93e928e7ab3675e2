"""Edits change what they say and nothing else, and two lists of them are one list."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.corpus.edits import Edit, apply_edits, changed_spans, check_edits, compose, without_unchanged

LETTERS = st.text("ab \né", max_size=12)


@st.composite
def edits_of(draw: st.DrawFn, text: str) -> list[Edit]:
    """Any edits of a text, touching ones and empty ones among them."""
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=8)))
    return [Edit(a, b, draw(LETTERS)) for a, b in zip(cuts[::2], cuts[1::2], strict=False)]


@given(st.data(), LETTERS)
def test_the_spans_lead_from_either_text_to_the_other(data: st.DataObject, text: str) -> None:
    edits = data.draw(edits_of(text))
    check_edits(text, edits)
    after = apply_edits(text, edits)
    spans = changed_spans(edits)
    assert [after[s.new_start : s.new_stop] for s in spans] == [edit.text for edit in edits]
    assert apply_edits(after, [Edit(s.new_start, s.new_stop, text[s.start : s.stop]) for s in spans]) == text
    assert apply_edits(text, without_unchanged(text, edits)) == after


@given(st.data(), LETTERS)
def test_composed_edits_do_what_they_do_in_turn(data: st.DataObject, text: str) -> None:
    so_far, composed = text, []
    for _ in range(3):
        edits = data.draw(edits_of(so_far))
        so_far, composed = apply_edits(so_far, edits), compose(composed, edits)
    check_edits(text, composed)
    assert apply_edits(text, composed) == so_far


def test_edits_apart_stay_apart() -> None:
    # one TWO three -> one TWO 33333, by the second of them in the text that the first made longer
    assert compose([Edit(4, 7, "zwei und")], [Edit(13, 18, "drei")]) == [Edit(4, 7, "zwei und"), Edit(8, 13, "drei")]
    assert compose([Edit(0, 1, "ab")], [Edit(1, 2, "c")]) == [Edit(0, 1, "ac")]


@pytest.mark.parametrize("edits", [[(3, 2, "")], [(0, 2, "x"), (1, 3, "y")], [(0, 5, "")], [(-1, 0, "")]])
def test_edits_that_overlap_or_lie_outside_are_told(edits: list[Edit]) -> None:
    with pytest.raises(ValueError, match="lies outside the text, or before the end of another"):
        check_edits("four", edits)
