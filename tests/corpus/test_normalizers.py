"""Normalization repairs what is broken and leaves the rest byte for byte."""

from __future__ import annotations

import ftfy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from yardsticks import assert_costs_at_most, cpu_of

from pipeline.config.corpus import NormalizeConfig
from pipeline.corpus.documents import Document
from pipeline.corpus.normalizers import (
    collapse_whitespace,
    fix_unicode,
    normalize,
    operations,
    strip_control_characters,
)

PIECES = [
    "plain text",
    "\n",
    "\r\n",
    "\t",
    "&amp;",
    "&eacute;",
    "<b>",
    "â€œquotedâ€\x9d",
    "schÃ¶n",
    "\x00",
    "\x1b[31m",
    "ﬁ",
    "\x85",
    "“q”",
    "é",
]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
def test_skipping_plain_lines_gives_what_ftfy_gives(text: str) -> None:
    assert fix_unicode(text) == ftfy.fix_text(text, normalization=None)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("def f():\n    return 1", "def f():\n    return 1"),
        ("a  b\tc", "a  b\tc"),
        ("a   \nb\t\n", "a\nb"),
        ("\n \n    indented first line", "    indented first line"),
        ("a\n\n\nb", "a\n\n\nb"),
        ("a\n\n\n\n\n\nb", "a\n\n\nb"),
    ],
)
def test_white_space_that_means_something_stays(before: str, after: str) -> None:
    assert collapse_whitespace(before) == after


def test_long_runs_of_spaces_take_time_in_proportion() -> None:
    text = "a" + " " * 20_000 + "b\n" + " " * 20_000
    assert collapse_whitespace(text) == text[:20_002]
    # Eight times a plain split, however long the text; a regular expression for trailing space takes 47,000 times.
    assert_costs_at_most(
        100,
        lambda: cpu_of(lambda: [collapse_whitespace(text) for _ in range(5)]),
        lambda: cpu_of(lambda: [text.split() for _ in range(5)]),
    )


def test_control_characters_go_and_line_ends_become_one() -> None:
    assert strip_control_characters("a\x00b\x07\tc\r\nd\re\u2028f\x7f\x0cg") == "ab\tc\nd\ne\nf\ng"


def test_operations_are_applied_in_order_and_recorded() -> None:
    section = NormalizeConfig(lowercase=True, remove_punctuation=True)
    document = Document("1", "The CafÃ© —  it's  OPEN!", "s", "o", changes=["earlier"])
    assert normalize(document, operations(section)) == ["fix_unicode", "lowercase", "remove_punctuation"]
    assert document.text == "the café   its  open"
    assert document.changes == [
        "earlier",
        "normalize:fix_unicode",
        "normalize:lowercase",
        "normalize:remove_punctuation",
    ]


def test_unicode_form_composes() -> None:
    document = Document("1", "cafe\u0301", "s", "o")
    assert normalize(document, operations(NormalizeConfig(fix_unicode=False))) == ["unicode_NFC"]
    assert document.text == "caf\u00e9"


def test_nothing_asked_for_changes_nothing() -> None:
    section = NormalizeConfig(
        fix_unicode=False, unicode_form="none", strip_control_characters=False, collapse_whitespace=False
    )
    document = Document("1", " schÃ¶n\x00 \r\n", "s", "o")
    assert normalize(document, operations(section)) == []
    assert document.text == " schÃ¶n\x00 \r\n"
