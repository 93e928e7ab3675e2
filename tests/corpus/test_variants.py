"""Rows that independent writers put into files of every dialect, spelling, compression and name come back as they were,
or are rejected: no other document is ever made of them."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
from corpus.test_formats import make_source, read
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st

from pipeline.corpus.documents import Rejected

Rows = list[tuple[str, str | None]]

PIECES = [
    "word",
    "two words",
    '"',
    "'",
    ", ",
    ",",
    ";",
    "\t",
    "|",
    "\\",
    "\n",
    "\\n",
    "#",
    "é",
    "日本",
    "🙂",
    "\u2028",
    " ",
    "1,5",
]
TEXTS = st.lists(st.sampled_from(PIECES), min_size=1, max_size=7).map("".join).filter(lambda text: not text.isspace())
LABELS = st.lists(st.sampled_from(["0", "1", None]), min_size=3, max_size=3).filter(any)
SPELLINGS: dict[str, Callable[[str], Any]] = {
    "integer": int,
    "float": float,
    "text": str,
    "text of a float": lambda label: f"{label}.0",
    "text with spaces": lambda label: f" {label} ",
}
NAMES = ["plain", "run [v2]", "a*b?", "with space", "ü 日本", "{x}", "#1 100%", "-x", "dots.in.it"]
COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": lambda data: gzip.compress(data[:9]) + gzip.compress(data[9:]) + bytes(512),
    ".bz2": lambda data: bz2.compress(data[:9]) + bz2.compress(data[9:]),
    ".xz": lambda data: lzma.compress(data) + bytes(4),
    ".zst": lambda data: pa.Codec("zstd").compress(data, asbytes=True),
}
BOUNDED = settings(derandomize=True, max_examples=100, deadline=None, database=None)


@dataclass
class Variant:
    """A file that a writer made, and the settings with which it is to be read."""

    suffix: str
    kind: str
    data: bytes
    settings: dict[str, Any] = field(default_factory=dict)


def spelled(rows: Rows, spelling: str) -> list[tuple[str, Any]]:
    return [(text, None if label is None else SPELLINGS[spelling](label)) for text, label in rows]


@st.composite
def rows_of(draw: st.DrawFn, texts: st.SearchStrategy[str] = TEXTS) -> Rows:
    return list(zip(draw(st.lists(texts, min_size=3, max_size=3)), draw(LABELS), strict=True))


@st.composite
def delimited(draw: st.DrawFn, rows: Rows) -> Variant:
    """By Python's csv module, in one of many dialects."""
    suffix, delimiter = draw(
        st.sampled_from([(".csv", ","), (".tsv", "\t"), (".csv", ";"), (".csv", "|"), (".csv", "\t")])
    )
    quoting = draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]))
    escapes = draw(st.booleans())
    has_header = draw(st.booleans())
    reversed_columns = draw(st.booleans())
    spelling = draw(st.sampled_from(list(SPELLINGS)))
    stream = io.StringIO(newline="")
    writer = csv.writer(
        stream,
        delimiter=delimiter,
        quoting=quoting,
        doublequote=not escapes,
        escapechar="\\" if escapes else None,
        lineterminator=draw(st.sampled_from(["\n", "\r\n"])),
    )
    order = -1 if reversed_columns else 1
    for row in [("text", "label")] * has_header + spelled(rows, spelling):
        writer.writerow(row[::order])
    is_known = (suffix, delimiter) in ((".csv", ","), (".tsv", "\t"))
    given = {"escapechar": "\\"} if escapes else {}
    given |= {} if is_known else {"delimiter": delimiter}
    if delimiter == "\t" and not has_header and quoting == csv.QUOTE_NONNUMERIC:
        given["quotechar"] = '"'  # which nothing tells in a file without a name in quotes
    given |= {} if has_header else {"column_names": ["text", "label"][::order]}
    mark = draw(st.sampled_from([b"", b"\xef\xbb\xbf"]))
    return Variant(suffix, "csv", mark + stream.getvalue().encode(), given)


@st.composite
def written_by_pandas(draw: st.DrawFn, rows: Rows) -> Variant:
    frame = pd.DataFrame(spelled(rows, draw(st.sampled_from(list(SPELLINGS)))), columns=["text", "label"])
    kind = draw(st.sampled_from(["csv", "tsv", "jsonl", "json", "records", "parquet", "feather"]))
    if kind in ("csv", "tsv"):
        data = frame.to_csv(index=draw(st.booleans()), sep="," if kind == "csv" else "\t").encode()
        return Variant(f".{kind}", "csv", data)
    if kind in ("jsonl", "json", "records"):
        lines, orient = kind == "jsonl", "index" if kind == "json" else "records"
        data = frame.to_json(orient=orient, lines=lines, force_ascii=draw(st.booleans())).encode()
        return Variant(".jsonl" if lines else ".json", "jsonl" if lines else "json", data)
    table = pa.Table.from_pandas(frame)
    if draw(st.booleans()):
        table = table.set_column(1, "label", table.column("label").dictionary_encode())
    sink = io.BytesIO()
    if kind == "parquet":
        pq.write_table(table, sink)
        return Variant(".parquet", "parquet", sink.getvalue())
    pyarrow.feather.write_feather(table, sink)
    return Variant(".feather", "arrow", sink.getvalue())


@st.composite
def json_lines(draw: st.DrawFn, rows: Rows) -> Variant:
    end = draw(st.sampled_from(["\n", "\r\n", "\r", "\n\n"]))
    records = [{"label": label, "text": text} for text, label in spelled(rows, draw(st.sampled_from(list(SPELLINGS))))]
    is_ascii = draw(st.booleans())
    return Variant(".jsonl", "jsonl", end.join(json.dumps(r, ensure_ascii=is_ascii) for r in records).encode())


def found_in(variant: Variant, folder: str, packed: str) -> tuple[Rows, list[Rejected]]:
    """The documents and what was rejected of a variant's file in a folder."""
    with TemporaryDirectory() as root:
        # Another file that the name would stand for, were it a pattern.
        for name in {folder, folder.replace("[v2]", "v").replace("*", "").replace("?", "x")}:
            path = Path(root, name, f"{name}{variant.suffix}{packed}")
            path.parent.mkdir()
            data = variant.data if name == folder else variant.data[: len(variant.data) // 2]
            path.write_bytes(COMPRESSIONS[packed](data))
        pattern = f"{root}/{folder}/{folder}{variant.suffix}{packed}"
        records = read(make_source(variant.kind, paths=[pattern], label_field="label", **variant.settings))
    rejected = [record for record in records if isinstance(record, Rejected)]
    return [(record.text, record.label) for record in records if not isinstance(record, Rejected)], rejected


def is_told_apart(text: str) -> bool:
    """Whether a text in a tab-separated file without quoting does not look as if a tool had quoted it."""
    return not (text.startswith('"') and '""' in text)


PLAIN_TEXTS = TEXTS.map(lambda text: text.replace("\t", " ").replace("\n", " ")).filter(str.strip).filter(is_told_apart)


@BOUNDED
@given(st.data(), st.sampled_from(NAMES), st.sampled_from(list(COMPRESSIONS)))
def test_what_a_writer_quotes_comes_back_or_is_rejected(data: st.DataObject, name: str, packed: str) -> None:
    rows = data.draw(rows_of(TEXTS.filter(lambda text: not ("\t" in text and "\n" in text))))
    variant = data.draw(st.one_of(delimited(rows), written_by_pandas(rows), json_lines(rows)))
    packed = packed if variant.kind in ("csv", "json", "jsonl") else ""
    documents, rejected = found_in(variant, name, packed)
    event(f"{variant.kind}: {', '.join(sorted({r.reason for r in rejected})) or 'all read'}")
    if not rejected:
        assert documents == rows, variant
    else:
        # All that may be refused of what was well written: lines of a text that are rows themselves, and rows without
        # header that two characters would cut.
        assert {r.reason for r in rejected} <= {
            "a quoted field holds what looks like whole rows",
            "wrong number of fields",
            "malformed row",
            "no certain delimiter",
            "no certain quotation marks",
        }


@BOUNDED
@given(rows_of(PLAIN_TEXTS), st.sampled_from(list(SPELLINGS)), st.sampled_from(NAMES), st.booleans())
def test_tab_separated_files_without_quoting_come_back_as_they_are(
    rows: Rows, spelling: str, name: str, has_header: bool
) -> None:
    assume(not all(len(text) > 1 and text[0] == text[-1] == '"' for text, _ in rows))  # then a setting is demanded
    written = [("text", "label")] * has_header + [
        (text, "" if label is None else label) for text, label in spelled(rows, spelling)
    ]
    data = "".join(f"{text}\t{label}\n" for text, label in written).encode()
    given = {} if has_header else {"column_names": ["text", "label"]}
    assert found_in(Variant(".tsv", "csv", data, given), name, "") == (rows, [])
