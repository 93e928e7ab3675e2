"""Sentences of prose are found whole, and others stand in their place."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipeline.corpus.sentences import in_place_of, sentences

TEXT = """\
Introduction

The quick fox, e.g. Mr. Smith's, jumped over 3.5 dogs. It was
happy and ran on "like mad." (Was it?) Then it
slept well.  He saw J. R. Smith at No. 5 yesterday... Twice this week!

    Code is here. And so on it goes.
- An item of a list is here. And another one!
2. The second item goes
   on here. No end
See `foo` for more
than this. This line is fine.
Table | of | things. Not a sentence there.
\u4eca\u65e5\u306f\u826f\u3044\u5929\u6c17\u3067\u3059\u3002\u660e\u65e5\u3082\u6674\u308c\u308b\u3002
"""


def test_whole_sentences_of_prose_are_found() -> None:
    found = list(sentences(TEXT))
    assert [one.text for one in found] == [
        "The quick fox, e.g. Mr. Smith's, jumped over 3.5 dogs.",
        'It was happy and ran on "like mad."',
        "Then it slept well.",
        "He saw J. R. Smith at No. 5 yesterday...",
        "Twice this week!",
        "An item of a list is here.",
        "And another one!",
        "The second item goes on here.",
        "No end See `foo` for more than this.",
        "This line is fine.",
        "\u4eca\u65e5\u306f\u826f\u3044\u5929\u6c17\u3067\u3059\u3002",
        "\u660e\u65e5\u3082\u6674\u308c\u308b\u3002",
    ]
    assert all(TEXT[one.start : one.stop].split() == one.text.split() for one in found)


@given(st.text('Ab.!?"( \n-1\u3002`e', max_size=80))
def test_sentences_lie_one_behind_the_other(text: str) -> None:
    position = 0
    for one in sentences(text):
        assert position <= one.start < one.stop <= len(text)
        assert " ".join(text[one.start : one.stop].split()) == one.text
        position = one.stop


def test_another_sentence_is_laid_out_like_the_one_before() -> None:
    text = "  Some words here. The quick brown fox\n  jumped over the lazy\n  dogs. More."
    one = list(sentences(text))[1]
    new = in_place_of(text, one, "A fast brown fox leaped over many very lazy dogs in the road.")
    assert text[: one.start] + new + text[one.stop :] == (
        "  Some words here. A fast brown fox\n  leaped over many very lazy dogs in\n  the road. More."
    )
    alone = next(sentences("Not so long a line."))
    assert in_place_of("Not so long a line.", alone, "x " * 100) == "x " * 100
