"""Normalization repairs what is broken and leaves the rest byte for byte."""

from __future__ import annotations

import itertools
import re
import unicodedata

import ftfy
import pytest
import yaml
from ftfy import badness, chardata
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from yardsticks import assert_costs_at_most, cpu_of

from pipeline.corpus.normalize_config import NormalizeConfig, is_plain, normalize
from pipeline.corpus.steps import STEPS, Step
from pipeline.corpus.steps import fix_unicode as fix_unicode_module
from pipeline.corpus.steps.collapse_whitespace import CollapseWhitespace
from pipeline.corpus.steps.fix_unicode import FixUnicode
from pipeline.corpus.steps.strip_control_characters import StripControlCharacters

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

fix_unicode = FixUnicode().apply
collapse_whitespace = CollapseWhitespace().apply
strip_control_characters = StripControlCharacters().apply


# fmt: off
HARD = [
    *"ВГРСΒΓΞΟÂÃŒœé°“”’‘—–…«»€™¡¿©®½×²³│░ﬁﬂĳ＆ａ；　ｱ漢。한ª", "\xa0", "\xad", "\x85", "\x9d",  # noqa: RUF001
    "\u2028", "\ufeff", "\ud83d", "\udca9", "\x1b", "\x00", "\r", "<", "-", " ",
]
# fmt: on
WORDS = ["a", "A", "1", "amp;", "[31m", "lt;", "\n", "вЂ", "â€", "x"]


@settings(max_examples=500, deadline=None)
@given(st.lists(st.sampled_from(PIECES) | st.sampled_from(HARD) | st.sampled_from(WORDS), max_size=14).map("".join))
@example("\u0412\x00€\u0412")  # mojibake only once a control character has gone
@example("\uff06amp; \uff1cb\uff1e &lt; \r Ã©\r1")
@example("a\u2028b &amp; “c”\n<p> &amp;")
def test_the_shortcut_gives_what_ftfy_gives(text: str) -> None:
    assert fix_unicode(text) == ftfy.fix_text(text, normalization=None)


def test_very_long_lines_are_repaired_in_pieces_as_by_ftfy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.corpus.steps.fix_unicode._LONGEST_SEGMENT", 10)
    text = "é&amp; 45678“&amp;\r5678<&amp;45 Ã©89\n1234567890\n“234567890&lt;"
    assert fix_unicode(text) == ftfy.fix_text(text, normalization=None, max_decode_length=10)


def characters_of_mojibake() -> str:
    """All characters of the classes of which ftfy makes its patterns, and those that stand in them by themselves."""
    found = set()
    for ranges in badness.MOJIBAKE_CATEGORIES.values():
        pattern = re.compile(f"[{ranges}]")
        found |= {chr(code) for code in range(0x80, 0x10000) if pattern.match(chr(code))}
    return "".join(sorted(found | set(re.sub(r"[\x00-\x7f]", "", badness.BADNESS_RE.pattern))))


def test_what_the_gate_lets_pass_is_not_mojibake_to_ftfy() -> None:
    # A newer ftfy that looks for more than the gate knows of fails here.
    assert fix_unicode_module.ENTITY.pattern == chardata.HTML_ENTITY_RE.pattern
    characters = characters_of_mojibake()
    assert 400 < len(characters) < 600
    gate = fix_unicode_module.MAY_BE_MOJIBAKE.search
    missed = set()
    for before, between in itertools.product(("", "a"), ("", "-", " ", "a")):
        for one in characters:
            # Each character beside each other in one text, apart enough that only this pair can be what is found.
            text = "".join(f"{before}{one}{between}{other}a  0  " for other in characters)
            if not badness.is_bad(text):
                continue
            for other in characters:
                pair = f"{before}{one}{between}{other}a"
                if not gate(pair) and badness.is_bad(pair):
                    missed.add(pair)
    assert not missed


@settings(max_examples=500, deadline=None)
@given(st.text(st.sampled_from(characters_of_mojibake()) | st.sampled_from("aZ -.,?!\n1漢。あ한")))
def test_texts_that_the_gate_lets_pass_are_not_mojibake_to_ftfy(text: str) -> None:
    for one in (text, "a".join(text), " ".join(text), "-".join(text)):
        assert fix_unicode_module.MAY_BE_MOJIBAKE.search(one) or not badness.is_bad(one)


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


def steps(*names: str, defaults: bool = False) -> list[dict[str, str]]:
    usual = ("fix_unicode", "unicode_form", "strip_control_characters", "collapse_whitespace") if defaults else ()
    return [{"type": name} for name in (*usual, *names)]


def normalized(text: str, section: NormalizeConfig) -> tuple[str, tuple[str, ...]]:
    (found,), (labels,) = normalize([text], section.steps)
    return found, labels


def test_steps_are_applied_in_order_and_recorded() -> None:
    section = NormalizeConfig.model_validate({"steps": steps("lowercase", "remove_punctuation", defaults=True)})
    text, labels = normalized("The CafÃ© —  it's  OPEN!", section)
    assert text == "the café   its  open"
    assert labels == ("fix_unicode", "lowercase", "remove_punctuation")


def test_unicode_form_composes() -> None:
    section = NormalizeConfig.model_validate({"steps": steps("unicode_form")})
    assert normalized("cafe\u0301", section) == ("caf\u00e9", ("unicode_NFC",))


def test_nothing_asked_for_changes_nothing() -> None:
    text = " schÃ¶n\x00 \r\n"
    assert normalized(text, NormalizeConfig(steps=[])) == (text, ())


def test_the_order_of_steps_is_the_users() -> None:
    text = "A\u2028B \u0130"
    made = []
    for order in (("lowercase", "unicode_form"), ("unicode_form", "lowercase")):
        made.append(normalized(text, NormalizeConfig.model_validate({"steps": steps(*order)}))[0])
    assert made[0] == unicodedata.normalize("NFC", text.lower())
    assert made[1] == unicodedata.normalize("NFC", text).lower()


@settings(max_examples=300, deadline=None)
@given(st.lists(st.lists(st.sampled_from([*PIECES, " ", "&", "A"]), max_size=6).map("".join), max_size=5))
def test_leaving_out_plain_texts_gives_what_every_step_gives_on_every_text(texts: list[str]) -> None:
    section = NormalizeConfig.model_validate({"steps": steps("lowercase", "collapse_whitespace", defaults=True)})
    expected = []
    for text in texts:
        labels = []
        for step in section.steps:
            before, text = text, step.apply(text)
            labels += [step.label] * (text != before)
        expected.append((text, tuple(labels)))
    assert list(zip(*normalize(texts, section.steps), strict=True)) == expected


@pytest.mark.parametrize("step", [kind() for kind in STEPS if kind.plain], ids=lambda step: step.type)
@settings(max_examples=200, deadline=None)
@given(text=st.text(st.sampled_from("aB.<%; \n\t")))
def test_a_step_that_says_so_leaves_plain_texts_alone(step: Step, text: str) -> None:
    if is_plain(text):
        assert step.apply(text) == text


def test_a_step_that_is_derived_from_one_that_skips_plain_texts_is_given_them() -> None:
    class Stars(CollapseWhitespace):
        type: str

        def apply(self, text: str) -> str:
            return f"*{super().apply(text)}*"

    assert normalize(["plain"], [Stars(type="./stars.py:Stars")])[0] == ["*plain*"]


def test_settings_that_once_turned_steps_on_and_off_are_refused_with_the_line_to_write() -> None:
    given = {"lowercase": True, "fix_unicode": False, "unicode_form": "NFKC"}
    with pytest.raises(ValidationError) as error:
        NormalizeConfig.model_validate(given)
    line = str(error.value.errors()[0]["ctx"]["error"]).partition("; write ")[2]
    meant = NormalizeConfig.model_validate(yaml.safe_load(line))
    assert [step.label for step in meant.steps] == [
        "unicode_NFKC", "strip_control_characters", "collapse_whitespace", "lowercase"
    ]  # fmt: skip
