"""Rules of quality give datatrove's answers; lists and regular expressions drop what they say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from corpus_values import batch_of
from datatrove.data import Document as DatatroveDocument
from datatrove.pipeline.filters import FineWebQualityFilter, GopherQualityFilter
from datatrove.utils.text import PUNCTUATION_SET
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.corpus.curate_config import CurateConfig
from pipeline.corpus.documents import Document
from pipeline.corpus.filters import Filter
from pipeline.corpus.text_facts import TextFacts
from pipeline.errors import BadDataError, ConfigError, MissingInputError

GOPHER = {
    "gopher_short_doc": "fewer words than gopher_quality",
    "gopher_long_doc": "more words than gopher_quality",
    "gopher_below_avg_threshold": "words too short or too long for gopher_quality",
    "gopher_above_avg_threshold": "words too short or too long for gopher_quality",
    "gopher_too_many_hashes": "more hash signs or ellipses than gopher_quality",
    "gopher_too_many_ellipsis": "more hash signs or ellipses than gopher_quality",
    "gopher_too_many_bullets": "more bullets than gopher_quality",
    "gopher_too_many_end_ellipsis": "more lines with an ellipsis than gopher_quality",
    "gopher_below_alpha_threshold": "fewer words with letters than gopher_quality",
    "gopher_enough_stop_words": "fewer stop words than gopher_quality",
}
FINEWEB = {
    "empty": "empty to fineweb_quality",
    "line_punct_ratio": "fewer lines that end like a sentence than fineweb_quality",
    "short_line_ratio": "more short lines than fineweb_quality",
    "char_dup_ratio": "more repeated lines than fineweb_quality",
    "list_ratio": "more line feeds than fineweb_quality",
}
WORDS = [
    "the",
    "of",
    "and",
    "with",
    "plain",
    "word",
    "internationalisation",
    "a",
    "12",
    "3,5",
    "#",
    "...",
    "x…",
    "--",
    "(b)",
    "~^",
]
ENDS = ["\n", ".\n", "...\n", "!\n\n", "\n- ", "\n• ", "。\n", " " * 3]
LINES = st.tuples(st.lists(st.sampled_from(WORDS), max_size=9), st.sampled_from(ENDS))
TEXTS = st.lists(LINES, max_size=12).map(lambda lines: "".join(" ".join(words) + end for words, end in lines))


@pytest.fixture(autouse=True)
def _words_between_white_space(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("gopher_quality_filter", "fineweb_quality_filter"):
        monkeypatch.setattr(f"datatrove.pipeline.filters.{name}.split_into_words", lambda text, language: text.split())
    # To datatrove a bullet alone is a word.
    monkeypatch.setattr("datatrove.pipeline.filters.gopher_quality_filter.PUNCTUATION_SET", PUNCTUATION_SET | {"•"})


def filter_of(**values: Any) -> Filter:
    return CurateConfig.model_validate({"filters": [values]}).filters[0]


def reason(one: Filter, text: str) -> str | None:
    return one.reason_of(text)  # type: ignore[attr-defined]


def datatroves(one: Any, text: str) -> str | None:
    answer = one.filter(DatatroveDocument(text=text, id="1"))
    return None if answer is True else answer[1]


@settings(max_examples=60, deadline=None)
@given(TEXTS, st.sampled_from([0.1, 0.5, 1.0]))
def test_gopher_quality_is_datatroves(text: str, symbols: float) -> None:
    ours = filter_of(type="gopher_quality", min_words=4, max_words=40, max_symbols_per_word=symbols, min_stop_words=1)
    theirs = GopherQualityFilter(min_doc_words=4, max_doc_words=40, max_symbol_word_ratio=symbols, min_stop_words=1)
    answer = datatroves(theirs, text)
    assert reason(ours, text) == (answer and GOPHER[answer])


@settings(max_examples=60, deadline=None)
@given(TEXTS, st.sampled_from([0.01, 0.2, 1.0]), st.sampled_from([0.3, 0.8]))
def test_fineweb_quality_is_datatroves(text: str, repeated: float, short: float) -> None:
    ours = filter_of(type="fineweb_quality", max_repeated_chars=repeated, max_short_lines=short)
    answer = datatroves(FineWebQualityFilter(char_duplicates_ratio=repeated, short_line_thr=short), text)
    assert reason(ours, text) == (answer and FINEWEB[answer])


@pytest.mark.parametrize(
    ("values", "kept", "dropped"),
    [
        ({"type": "max_bullet_lines", "value": 0.5}, "- a\nb", "- a\n  • b\nc"),
        ({"type": "max_ellipsis_lines", "value": 0.5}, "a...\nb", "a... \nb…\nc"),
        ({"type": "mean_word_length", "min": 3, "max": 4}, "abc - abcd", "ab abc --"),
        ({"type": "mean_word_length", "min": 3, "max": 4}, "---", "abcd abcde"),
        ({"type": "max_hash_ratio", "value": 0.5}, "# a", "## a"),
        ({"type": "max_words", "value": 2}, "a  b\n", "a b c"),
        ({"type": "max_bytes", "value": 3}, "\u00e9a", "\u00e9\u00e9"),
        ({"type": "regex_filter", "pattern": r"(?i)lorem\s+ipsum"}, "lorem", "Lorem\nipsum"),
        ({"type": "regex_filter", "pattern": r"\p{L}", "drop": "not_found"}, "1 a", "123"),
    ],
)
def test_filters_drop_what_they_say(values: dict[str, Any], kept: str, dropped: str) -> None:
    one = filter_of(**values)
    assert reason(one, kept) is None
    assert reason(one, dropped) is not None
    assert reason(one, "") == (None if values.get("drop") != "not_found" else "not found by regex_filter")


def test_min_bytes_counts_those_of_utf8() -> None:
    one = filter_of(type="min_bytes", value=3)
    assert [reason(one, text) for text in ("\u00e9a", "ab")] == [None, "smaller than min_bytes"]


def test_min_stop_words_counts_different_words() -> None:
    one = filter_of(type="min_stop_words")
    assert [reason(one, text) for text in ("the dog of", "the the, The")] == [None, "fewer than min_stop_words"]
    assert reason(filter_of(type="min_stop_words", value=1, stop_words=["der"]), "der Hund") is None
    with pytest.raises(ValidationError, match="above max"):
        filter_of(type="mean_word_length", min=5, max=4)


def test_url_block_list_knows_hosts_and_folders(tmp_path: Path) -> None:
    file = tmp_path / "urls.txt"
    file.write_text("# listed\nBad.com\n\nhttps://www.fine.org:80/forum/?page=1\n")
    one = filter_of(type="url_block_list", urls=str(file))

    def reason_of(origin: str) -> str | None:
        document = Document("1", "text", "web", origin)
        assert list(one.reasons(batch_of([document]), TextFacts(["text"]))) == [one.reason_to_drop(document)]
        return one.reason_to_drop(document)

    for origin in (
        "http://bad.com",
        "HTTPS://a.www.BAD.com./x?y",
        "https://user@fine.org/forum",
        "https://fine.org/forum/a#b",
    ):
        assert reason_of(origin) == "address in url_block_list", origin
    for origin in (
        "https://notbad.com",
        "https://bad.com.org",
        "https://fine.org/forums",
        "https://fine.org/",
        "bad.com:1",
        "file",
        "http://[x",
    ):
        assert reason_of(origin) is None, origin
    assert one.files_of_key() == {str(file): [file]}
    with pytest.raises(MissingInputError, match="does not exist"):
        filter_of(type="url_block_list", urls=str(tmp_path / "none.txt")).files_of_key()


def test_block_list_counts_whole_words_in_any_case(tmp_path: Path) -> None:
    file = tmp_path / "words.txt"
    file.write_text("Bad\n\nvery  bad word\nc++\nStraße\n")
    one = filter_of(type="block_list", words=str(file))
    for text in ("so BAD.", "a very\nbad  word", "C++ code", "STRASSE"):
        assert reason(one, text) == "words of block_list"
    for text in ("badge, forbad", "c+", "", "very good word"):
        assert reason(one, text) is None
    twice = filter_of(type="block_list", words=str(file), max_count=1)
    assert (reason(twice, "bad"), reason(twice, "bad, bad")) == (None, "words of block_list")
    assert one.files_of_key() == {str(file): [file]}
    with pytest.raises(MissingInputError, match="does not exist"):
        filter_of(type="block_list", words=str(tmp_path / "none.txt")).files_of_key()
    file.write_text("\n")
    assert reason(filter_of(type="block_list", words=str(file)), "bad") is None


@pytest.mark.parametrize(("kind", "field"), [("block_list", "words"), ("url_block_list", "urls")])
def test_a_list_that_is_not_utf_8_is_refused(tmp_path: Path, kind: str, field: str) -> None:
    file = tmp_path / "list.txt"
    file.write_bytes(b"caf\xe9\n")
    with pytest.raises(BadDataError, match=r"list\.txt: not UTF-8 at byte 3; save the list as UTF-8"):
        filter_of(type=kind, **{field: str(file)}).check()


def test_regular_expressions_that_do_not_work_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValidationError, match="missing"):
        filter_of(type="regex_filter", pattern="(")
    monkeypatch.setattr("pipeline.corpus.filters.regex_filter._SECONDS", 0.05)
    with pytest.raises(ConfigError, match="repetitions in repetitions"):
        reason(filter_of(type="regex_filter", pattern="(a+)+$"), "a" * 5_000 + "c")
