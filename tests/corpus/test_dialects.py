"""Delimited text and JSON of many dialects: read right, or rejected with place, reason and the setting to give."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from corpus.test_formats import content, make_source, read
from pydantic import ValidationError

from pipeline.corpus.documents import Rejected


@pytest.fixture(autouse=True)
def in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def outcome(name: str, data: str | bytes, **settings: Any) -> list[tuple[str, str | None] | str]:
    """Text and label of each document of a table, and in place of a rejected one its place, reason and details."""
    Path(name).write_bytes(data if isinstance(data, bytes) else data.encode())
    return [
        f"{r.origin}: {r.reason}; {r.detail}" if isinstance(r, Rejected) else (r.text, r.label)
        for r in read(make_source("csv", paths=[name], **{"label_field": "label", **settings}))
    ]


def test_a_text_that_begins_with_a_quotation_mark_swallows_no_rows() -> None:
    rows = [(f"The guard wanted {n} boxes.", "pos" if n % 3 else "neg") for n in range(100)]
    rows = [
        (f'"{text}' if n % 10 == 3 else f'{text}"' if n % 10 == 7 else text, label)
        for n, (text, label) in enumerate(rows)
    ]
    Path("a.tsv").write_text("".join(f"{text}\t{label}\n" for text, label in [("text", "label"), *rows]))
    assert content(make_source("csv", paths=["a.tsv"], label_field="label")) == rows
    Path("a.csv").write_text("".join(f"{text},{label}\n" for text, label in [("text", "label"), *rows]))
    assert content(make_source("csv", paths=["a.csv"], label_field="label", quotechar=None)) == rows
    records = read(make_source("csv", paths=["a.csv"], label_field="label"))
    rejects = [(r.origin, r.reason) for r in records if isinstance(r, Rejected)]
    assert rejects == [(f"a.csv:{n + 2}", "a quoted field holds what looks like whole rows") for n in range(3, 100, 10)]
    documents = [(r.text, r.label) for r in records if not isinstance(r, Rejected)]
    assert documents == [row for row in rows if not row[0].startswith('"')]


ROW = [("foo", "1")]
CASES: dict[str, tuple[str, str | bytes, dict[str, Any], list[Any]]] = {
    # what: name of the file, content, settings, and what is right
    "Excel's hint": ("a.csv", "sep=;\r\ntext;label\r\nfoo, bar;1,5\r\n", {}, [("foo, bar", "1,5")]),
    "carriage returns alone": ("a.csv", 'text,label\r"foo\r, bar",1\rbar,2\r', {}, [("foo\n, bar", "1"), ("bar", "2")]),
    "Windows' line ends": (
        "a.csv",
        'text,label\r\n"foo\r\n, bar",1\r\nbar,2',
        {},
        [("foo\r\n, bar", "1"), ("bar", "2")],
    ),
    "a small table in a quoted field, where the quotes are given": (
        "a.csv",
        'label,text\n1,"table:\na,b\nc,d\ne,f"\n2,plain\n',
        {"quotechar": '"'},
        [("table:\na,b\nc,d\ne,f", "1"), ("plain", "2")],
    ),
    "escaped quotes": (
        "a.csv",
        'text,label\n"said \\"hi\\", ok",1\n"end \\"",2\na\\\\b,3\n',
        {"escapechar": "\\"},
        [('said "hi", ok', "1"), ('end "', "2"), ("a\\b", "3")],
    ),
    "quotes in unquoted fields": (
        "a.csv",
        'text,label\n5" pipe,1\nsay "x" y,2\n',
        {},
        [('5" pipe', "1"), ('say "x" y', "2")],
    ),
    "spaces after delimiters": (
        "a.csv",
        'label, text\n1, "foo, bar"\n2, "a ""b"""\n',
        {},
        [("foo, bar", "1"), ('a "b"', "2")],
    ),
    "the same without header": ("a.csv", '1, "foo, bar"\n', {"column_names": ["label", "text"]}, [("foo, bar", "1")]),
    "a byte order mark before quotes": ("a.csv", b'\xef\xbb\xbf"text",label\nfoo,1\n', {}, ROW),
    "a blank name": ("a.csv", ",text,label\n0,foo,1\n", {}, ROW),
    "a trailing delimiter in all rows": ("a.csv", "text,label,\nfoo,1,\n", {}, ROW),
    "blank lines": ("a.csv", "\n \ntext,label\n\nfoo,1\n\n  \n\n", {}, ROW),
    "no line break at the end": ("a.csv", 'text,label\n"foo",1', {}, ROW),
    "verse": (
        "a.csv",
        'text,label\n"Roses are red, violets\nSugar is sweet, and so\nare you",1\n"Dear all,\nsee you",2\n',
        {},
        [("Roses are red, violets\nSugar is sweet, and so\nare you", "1"), ("Dear all,\nsee you", "2")],
    ),
    "one column of several lines": (
        "a.csv",
        'text\n"two\nlines"\nfoo\n',
        {"label_field": None},
        [("two\nlines", None), ("foo", None)],
    ),
    "quotes of text in tab-separated files": (
        "a.tsv",
        'text\tlabel\n"Hello."\t1\n"open\t2\nshut"\t3\n',
        {},
        [('"Hello."', "1"), ('"open', "2"), ('shut"', "3")],
    ),
    "a quoted header there": ("a.tsv", '"text"\t"label"\n"Hello."\t"x"\nfoo\t1\n', {}, [("Hello.", "x"), *ROW]),
    "all words quoted there": (
        "a.tsv",
        '"Hello."\t"x"\n"foo"\t"1"\n',
        {"column_names": ["text", "label"]},
        [("Hello.", "x"), *ROW],
    ),
    "code that is indented by tabs": (
        "a.tsv",
        'label\ttext\n1\t"def f():\n\treturn 1\n\tx\n"\n',
        {},
        [("def f():\n\treturn 1\n\tx\n", "1")],
    ),
    "other quotes": (
        "a.csv",
        "'text';'label'\n'foo; it''s';'1'\n",
        {"delimiter": ";", "quotechar": "'"},
        [("foo; it's", "1")],
    ),
    # what is not read
    "semicolons": (
        "a.csv",
        "text;label\nfoo, bar;1,5\n",
        {},
        ["a.csv:1: no column 'text'; its columns are text;label; set delimiter: ';'"],
    ),
    "quoted semicolons": (
        "a.csv",
        '"text";"label"\n"a, b";"1"\n',
        {},
        ["a.csv:1: the header is unusable; malformed row; set delimiter: ';'"],
    ),
    "tabs in .csv": (
        "a.csv",
        "text\tlabel\nfoo\t1\n",
        {},
        ["a.csv:1: no column 'text'; its columns are text\tlabel; set delimiter: \"\\t\""],
    ),
    "commas in .tsv": (
        "a.tsv",
        "text,label\nfoo,1\n",
        {},
        ["a.tsv:1: no column 'text'; its columns are text,label; set delimiter: ','"],
    ),
    "single quotes": (
        "a.csv",
        "'text','label'\n'a','1'\n",
        {},
        ["a.csv:1: no column 'text'; its columns are 'text', 'label'; set quotechar: \"'\""],
    ),
    "decimal commas without header": (
        "a.csv",
        "good film;1,5\nbad film;0,5\n",
        {"column_names": ["text", "label"]},
        ["a.csv:1: no certain delimiter; ',' and ';' both cut its rows into 2 fields; set delimiter"],
    ),
    "all texts in quotation marks": (
        "a.tsv",
        'text\tlabel\n"Hello."\t1\n"Bye."\t2\n',
        {},
        ["a.tsv:1: no certain quotation marks; its first texts all stand in them; set quotechar: '\"', or null where"],
    ),
    "another delimiter without header": (
        "a.csv",
        "foo;1\nbar, baz;2\n",
        {"column_names": ["text", "label"]},
        [
            "a.csv:1: wrong number of fields; 1 instead of 2; set delimiter: ';' if that stands between them",
            ("bar", "baz;2"),
        ],
    ),
    "escapes that are not set": (
        "a.csv",
        'text,label\n"said \\"hi\\", ok",1\n"end \\"",2\nfoo,1\n',
        {},
        [
            "a.csv:2: malformed row; ',' expected after '\"'; set escapechar: '\\' if a",
            "a.csv:3: malformed row; unexpected end of data; set escapechar: '\\' if a",
            *ROW,
        ],
    ),
    "UTF-16 without a mark": (
        "a.csv",
        "text,label\nfoo,1\n".encode("utf-16-le"),
        {},
        ["a.csv: UTF-16LE, not UTF-8; iconv -f UTF-16LE -t UTF-8 converts it"],
    ),
    "a header in the middle": (
        "a.csv",
        "text,label\nfoo,1\n\ufefftext,label\n",
        {},
        [*ROW, "a.csv:3: repeats the header; "],
    ),
    "a header beside names": (
        "a.csv",
        "text,label\nfoo,1\n",
        {"column_names": ["text", "label"]},
        ["a.csv:1: repeats the header; ", *ROW],
    ),
    "a stray carriage return": (
        "a.csv",
        "text,label\na\rb,1\nfoo,1\n",
        {},
        ["a.csv:2: malformed row; a carriage return in it", *ROW],
    ),
    "the same between tabs": (
        "a.tsv",
        "text\na\rb\nfoo\n",
        {"label_field": None},
        ["a.tsv:2: malformed row; a car", ("foo", None)],
    ),
    "an unclosed quote": (
        "a.csv",
        'text,label\n"bar,2\nfoo,1\n',
        {},
        ["a.csv:2: malformed row; unexpected end of data; set quotechar: null if quotation marks are text", *ROW],
    ),
    "a comment": (
        "a.csv",
        "# made by x\ntext,label\nfoo,1\n",
        {},
        ["a.csv:1: no column 'text'; its columns are # made by x"],
    ),
    "row names": ("a.csv", '"text","label"\n"1","foo","1"\n', {}, ["a.csv:2: wrong number of fields; 3 instead of 2"]),
    "single quotes under a header without": (
        "a.csv",
        "text,label\n'bar, he said',2\nfoo,1\n",
        {},
        ['a.csv:2: wrong number of fields; 3 instead of 2; set quotechar: "\'" if that stands around fields', *ROW],
    ),
    "one column of what may be several lines": (
        "a.tsv",
        'text\nfoo\n"Well, I never,\nsaid he."\n',
        {"label_field": None},
        [
            ("foo", None),
            "a.tsv:3: a quoted field holds what looks like whole rows",
            ('said he."', None),
        ],
    ),
}


@pytest.mark.parametrize("what", CASES)
def test_dialects(what: str) -> None:
    name, data, settings, expected = CASES[what]
    found = outcome(name, data, **settings)
    beginnings = [
        f[: len(e)] if isinstance(f, str) and isinstance(e, str) else f for f, e in zip(found, expected, strict=False)
    ]
    assert (beginnings, len(found)) == (expected, len(expected))


def test_an_apostrophe_is_no_quotation_mark() -> None:
    assert outcome("a.csv", "text,label\n'tis, he said,2\nfoo,1\n")[0].endswith("fields; 3 instead of 2")


def test_a_record_that_breaks_off_late_counts_by_its_bytes() -> None:
    Path("a.csv").write_text('text,label\n"one\ntwo\nthree" x,1\nfoo,1\n')
    bad, good = read(make_source("csv", paths=["a.csv"], label_field="label"))
    assert isinstance(bad, Rejected)
    assert not isinstance(good, Rejected)
    assert (bad.origin, bad.reason, bad.lost_bytes, good.text) == ("a.csv:2", "malformed row", 4 + 3 + 10, "foo")


@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC])
@pytest.mark.parametrize(("name", "delimiter"), [("a.csv", ","), ("a.tsv", "\t"), ("a.csv", "|")])
def test_what_pandas_writes_is_read(name: str, delimiter: str, quoting: Any) -> None:
    texts = [
        "plain",
        'say "x"',
        '"all of it"',
        "two\nlines",
        "a tab\there",
        "comma, here",
        '"open',
        'shut"',
        "a\n\nb\n",
    ]
    frame = pd.DataFrame({"n": range(len(texts)), "text": texts, "label": ["x", "y, z", "x"] * 3})
    frame.to_csv(name, sep=delimiter, index=False, quoting=quoting)
    source = make_source("csv", paths=[name], label_field="label", delimiter=delimiter if delimiter == "|" else None)
    assert content(source) == list(zip(frame["text"], frame["label"], strict=True))


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"delimiter": "\n"}, r"delimiter is '\\n', which cannot be one"),
        ({"quotechar": " "}, "quotechar is ' ', which cannot be one"),
        ({"quotechar": "none"}, "quotechar is 'none', which cannot be one; give one visible character, auto or null"),
        ({"delimiter": "|", "quotechar": "|"}, "delimiter and quotechar must differ"),
    ],
)
def test_characters_that_cannot_be_told_apart(settings: dict[str, str], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        make_source("csv", paths=["a.csv"], **settings)


def test_separators_hold_on_every_system() -> None:
    for line_break in ("\n", "\r\n", "\r"):
        Path("a.txt").write_bytes(line_break.join(["one", "more", "", "two", "", "", "three"]).encode())
        texts = [text for text, _ in content(make_source("text", paths=["a.txt"], separator="\n\n"))]
        assert texts == [f"one{line_break}more", "two", f"{line_break}three"], repr(line_break)
    Path("a.txt").write_bytes(b"one\r\n\r\ntwo\n\nthree\r\n\r\nfour")
    _, two, _ = read(make_source("text", paths=["a.txt"], separator="\n\n"))
    assert isinstance(two, Rejected)
    assert (two.origin, two.reason) == ("a.txt#2", "mixed line ends")


@pytest.mark.parametrize("settings", [{"separator": r"\n\n"}, {"separator": r"\t"}])
def test_an_escape_that_yaml_did_not_read_is_refused(settings: dict[str, str]) -> None:
    with pytest.raises(
        ValidationError, match=r"in two characters, not the one .* write separator: \"\.\.\.\\[nt]\.\.\.\""
    ):
        make_source("text", paths=["a.txt"], **settings)
    with pytest.raises(ValidationError, match=r"text_template has \\n in two characters"):
        make_source("jsonl", paths=["a"], text_template=r"{title}\n\n{body}")
    make_source("jsonl", paths=["a"], text_template=r"\nabla {title}")


@pytest.mark.parametrize(
    ("text", "reason", "detail"),
    [
        ('{"text": "a", "text": "b"}', "field 'text' stands in it more than once", ""),
        ('{"text": "a"}{"text": "b"}', "not valid JSON", "Extra data"),
        ("{", "not valid JSON", "for one value over several lines say type: json"),
        ('[{"text": "a"}]', "not a JSON object", "for an array of records say type: json"),
        ('{"text": NaN}', "field 'text' is null", ""),
        ("[" * 100_000, "not valid JSON", "nested too deeply"),
        ('{"text": "a", "n": ' + "9" * 5000 + "}", "not valid JSON", "a number of too many digits"),
    ],
)
def test_json_lines_that_say_two_things(text: str, reason: str, detail: str) -> None:
    Path("a.jsonl").write_text(f'{text}\n{{"text": "b", "n": 1, "n": 2}}\n')
    bad, good = read(make_source("jsonl", paths=["a.jsonl"]))
    assert isinstance(bad, Rejected)
    assert (bad.origin, bad.reason) == ("a.jsonl:1", reason)
    assert detail in bad.detail
    assert not isinstance(good, Rejected)


def test_repeated_keys_of_json_records() -> None:
    for text in ('[{"text": "a", "text": "b"}]', '{"text": "a", "text": "b"}', '{"1": {"text": "a", "text": "b"}}'):
        Path("a.json").write_text(text)
        (record,) = read(make_source("json", paths=["a.json"]))
        assert isinstance(record, Rejected)
        assert record.reason == "field 'text' stands in it more than once"
    Path("a.json").write_text('{"1": {"text": "a"}, "1": {"text": "b"}}')  # records, not fields
    assert content(make_source("json", paths=["a.json"])) == [("a", None), ("b", None)]


def test_json_lines_that_end_in_carriage_returns_or_hold_other_breaks() -> None:
    Path("a.jsonl").write_bytes('{"text": "a\u2028b\x85c"}\r{"text": "d"}\r'.encode())
    assert content(make_source("jsonl", paths=["a.jsonl"])) == [("a\u2028b\x85c", None), ("d", None)]
