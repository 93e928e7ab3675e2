"""Each step of normalization: what it changes, and that doing it again changes nothing."""

from __future__ import annotations

import ipaddress
import unicodedata
from email.utils import parseaddr
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from yardsticks import assert_costs_at_most, cpu_of

from pipeline.corpus.normalize_config import NormalizeConfig, is_plain
from pipeline.corpus.steps import STEPS, Step
from pipeline.errors import ConfigError

HARD = [
    *"aAbz019 \t\n\r.,;:!?-+@/()[]{}<>&#|'\"_%~*",
    *("é", "e\u0301", "İ", "ß", "Σ", "ς", "ﬁ", "ø", "अ", "ि", "한", "漢", "\u0663", "²", "Ⅳ"),
    *("\u2018", "\u201d", "\u2013", "\u2014", "\u2026", "\xa0", "\u2003", "\u2028", "\x85", "\x00", "\u0345", "\u0300"),
    *("<b>", "</p>", "<br/>", "<!--", "-->", "<script>", "</script>", "&lt;", "&gt", "&amp;", "&#60;", "lt;", "amp;"),
    *("http://", "www.", "x@y.org", "1.2.3.4", "::1", "fe80:", "+49 30 123456", "555-010-9999", "1,000.5", "&copy"),
]
TEXTS = st.lists(st.sampled_from(HARD), max_size=20).map("".join) | st.text(max_size=20)

KINDS: list[dict[str, Any]] = [
    {"type": "html"},
    {"type": "html", "keep": ["b", "script"]},
    *({"type": "unicode_form", "form": form} for form in ("NFC", "NFD", "NFKC", "NFKD")),
    {"type": "strip_control_characters"},
    {"type": "collapse_whitespace"},
    {"type": "collapse_spaces"},
    {"type": "quotes_and_dashes"},
    {"type": "lowercase"},
    {"type": "remove_accents"},
    {"type": "remove_punctuation"},
    {"type": "numbers"},
    {"type": "numbers", "by": ""},
    {"type": "numbers", "each": "number", "by": "<number>"},
    {"type": "numbers", "each": "number", "by": "0"},
    {"type": "mask"},
    {"type": "mask", "by": "[{what}]"},
    {"type": "mask", "what": ["phone", "ip"]},
    {"type": "regex_step", "pattern": r"\s+", "replacement": " "},
    {"type": "regex_step", "pattern": r"(?i)a(?=b)|<\w+>"},
    {"type": "regex_step", "pattern": r"(\p{L})\1+", "replacement": r"\1"},
]


def step(**values: Any) -> Step:
    return NormalizeConfig.model_validate({"steps": [values]}).steps[0]


def test_every_step_is_here() -> None:
    elsewhere = {"fix_unicode"}  # as idempotent as ftfy is: tests/corpus/test_normalizers.py holds it against that
    assert {kind["type"] for kind in KINDS} | elsewhere == {kind.model_fields["type"].default for kind in STEPS}


@pytest.mark.parametrize("kind", KINDS, ids=str)
@settings(max_examples=60, deadline=None)
@given(text=TEXTS)
def test_a_step_done_again_changes_nothing(kind: dict[str, Any], text: str) -> None:
    once = step(**kind).apply(text)
    assert step(**kind).apply(once) == once


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("<p>Fish &amp; <b>chips</b></p>", "\nFish & chips\n"),
        ("a<br>b<BR />c", "a\nb\nc"),
        ("<tr><td>1</td><td>2</td></tr>", "\n1\t2\t\n"),
        ("a<!-- <b> no -->b<!doctype html>c", "abc"),
        ("<script src='x'>if (a < b) { }</script >x<style>p {}</style>y", "xy"),
        ("""<a title="1 > 0" href='x'>y</a>""", "y"),
        ('<p class="x>y', "\ny"),
        ("&lt;i&gt;x", "x"),
        ("&amp;lt;i&amp;gt;x", "x"),
        ("<<b>i>x", "x"),
        ("List<String> a < b > c <joe@example.org> 5<6", "List<String> a < b > c <joe@example.org> 5<6"),
        ("&eacute;&#233;&#xE9; &nosuch;", "ééé &nosuch;"),
        ("<!-- left open <b>x", "<!-- left open x"),
    ],
)
def test_html_leaves_the_text(before: str, after: str) -> None:
    assert step(type="html").apply(before) == after


def test_html_keeps_the_tags_named() -> None:
    kept = step(type="html", keep=["pre", "script"])
    assert kept.apply("<p><pre class=x>a</pre><script>b</script>") == "\n<pre class=x>a</pre><script>b</script>"


@pytest.mark.parametrize(
    "hostile", ["<" * 20_000 + "b>" * 20_000, "&" + "amp;" * 20_000, "<!--" * 20_000, '<a "' * 20_000]
)
def test_hostile_html_takes_time_in_proportion(hostile: str) -> None:
    html = step(type="html")
    assert html.apply(html.apply(hostile)) == html.apply(hostile)
    assert_costs_at_most(
        4, lambda: cpu_of(lambda: html.apply(hostile * 2)), lambda: cpu_of(lambda: html.apply(hostile))
    )


def test_spaces_inside_lines_become_one() -> None:
    assert step(type="collapse_spaces").apply("  a  b\tc \td\u2003\xa0e\n    f") == "  a b\tc d e\n    f"


def test_steps_said_to_leave_plain_text_do() -> None:
    plain = "".join(map(chr, range(32, 127))).replace("&", "") + "\n\n\tA <b> 12"
    for values in KINDS:
        assert is_plain(plain)
        assert not step(**values).plain or step(**values).apply(plain) == plain


def test_quotes_and_dashes_are_those_of_a_keyboard() -> None:
    typed = step(type="quotes_and_dashes").apply(
        "\u201cIt\u2019s\u201d \u2013 2010\u20132012 \u2212 4\u2014so\u2026 \xabci\xbb \u2018a\u201a \u201eb\u201f"
    )
    assert typed == '"It\'s" - 2010-2012 - 4--so... \xabci\xbb \'a\' "b"'


def test_accents_go_and_letters_of_their_own_stay() -> None:
    assert step(type="remove_accents").apply("Crème brûlée, Ångström, naïve, e\u0301, Łódź, ø, 한, Việt") == (
        "Creme brulee, Angstrom, naive, e, Łodz, ø, 한, Viet"
    )


@settings(max_examples=80, deadline=None)
@given(st.characters(categories=["L"]))
def test_a_letter_without_its_accents_is_the_first_of_its_parts(letter: str) -> None:
    marks = [char for char in unicodedata.normalize("NFD", letter) if unicodedata.category(char) != "Mn"]
    assert step(type="remove_accents").apply(letter) == unicodedata.normalize("NFC", "".join(marks))


@pytest.mark.parametrize(
    ("values", "after"),
    [
        ({}, "in 0000: 0,000.0 kg, x0, 0-0"),
        ({"by": "#"}, "in ####: #,###.# kg, x#, #-#"),
        ({"each": "number", "by": "<number>"}, "in <number>: <number> kg, x<number>, <number>-<number>"),
    ],
)
def test_numbers_become_alike(values: dict[str, Any], after: str) -> None:
    assert step(type="numbers", **values).apply("in 1984: 1,234.5 kg, x3, 1-\u0662") == after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("see https://example.org/a?b=c#d, or (www.example.org).", "see <url>, or (<url>)."),
        ("ftp://1.2.3.4/x and 1.2.3.4:80.", "<url> and <ip>:80."),
        ("write to joe.b+x@mail.example.org.", "write to <email>."),
        ("host 10.0.0.1, 2001:db8::ff00:42:8329, ::1", "host <ip>, <ip>, <ip>"),
        ("version 1.2.3, 1.2.3.4.5, 300.1.1.1, std::string, a::b, 12:30:45", None),
        ("00:1b:63:84:45:e6 and x@y and @name and user@localhost", None),
        (
            "call +49 30 1234567, (+1 555 010 9999), (555) 010-9999 or 555.010.9999",
            "call <phone>, (<phone>), <phone> or <phone>",
        ),
        ("2024-01-02, 978-3-16-148410-0, 1234567890, 3.141592653", None),
    ],
)
def test_addresses_and_numbers_are_masked(before: str, after: str | None) -> None:
    assert step(type="mask").apply(before) == (before if after is None else after)


@settings(max_examples=80, deadline=None)
@given(st.ip_addresses())
def test_every_ip_address_is_masked(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    for text in {str(address), address.exploded}:
        masked = "<ip>" if any(char.isdigit() for char in text) else text
        assert step(type="mask", what=["ip"]).apply(f"at {text}, port 80") == f"at {masked}, port 80"


@settings(max_examples=80, deadline=None)
@given(st.emails())
def test_usual_email_addresses_are_masked(address: str) -> None:
    local, _, domain = address.rpartition("@")
    text = f"{''.join(char for char in local if char.isalnum() and char.isascii()) or 'x'}@{domain}"
    assert parseaddr(text)[1] == text
    usual = domain.rpartition(".")[2].isalpha() and len(domain.rpartition(".")[2]) <= 24 and domain.count(".") < 9
    if usual:
        assert step(type="mask", what=["email"]).apply(f"to {text}, now") == "to <email>, now"


def test_a_mask_takes_only_what_it_is_told_to() -> None:
    text = "x@y.org 1.2.3.4 http://a.b"
    assert step(type="mask", what=["ip"], by="[hidden]").apply(text) == "x@y.org [hidden] http://a.b"


def test_regular_expressions_replace_until_nothing_changes() -> None:
    assert step(type="regex_step", pattern=r"\(\)").apply("a(()())b") == "ab"
    assert step(type="regex_step", pattern=r"\(\)", idempotent=False).apply("a(()())b") == "a()b"
    assert step(type="regex_step", pattern=r"(\w+) and \1", replacement=r"\1").apply("so and so") == "so"
    assert step(type="regex_step", pattern="^", replacement="> ", idempotent=False).apply("x") == "> x"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"type": "regex_step", "pattern": "("}, "missing )"),
        ({"type": "regex_step", "pattern": "a", "replacement": r"\2"}, "pattern 'a' with replacement"),
        ({"type": "regex_step", "pattern": "a", "replacement": "aa"}, "idempotent: false"),
        ({"type": "numbers", "by": "12"}, "which would be replaced in turn"),
        ({"type": "mask", "by": "x"}, "put it in <>"),
        ({"type": "mask", "by": "<x@y.org {what}>"}, "masked again"),
    ],
)
def test_settings_that_do_not_work_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as error:
        step(**values)
    assert message in str(error.value)


def test_a_regular_expression_that_never_ends_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="again and again"):
        step(type="regex_step", pattern="(a)", replacement=r"\1\1b").apply("aac")
    with pytest.raises(ConfigError, match="again and again"):
        step(type="regex_step", pattern="(a)|b", replacement=r"b\1").apply("ab" * 10)
    slow = step(type="regex_step", pattern=r"(a+)+$")
    monkeypatch.setattr("pipeline.corpus.steps.regex_step._SECONDS", 0.05)
    with pytest.raises(ConfigError, match="write one without repetitions in repetitions"):
        slow.apply("a" * 5_000 + "c")
