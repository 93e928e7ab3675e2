"""The same records give the same documents, whatever the format, the compression and the way to name the files."""

from __future__ import annotations

import bz2
import csv
import gzip
import json
import lzma
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import TypeAdapter, ValidationError

from pipeline.corpus.documents import Document, Rejected
from pipeline.corpus.ingest_config import AnySource, IngestConfig
from pipeline.corpus.readers.reading_jobs import read_parts, reading_tasks
from pipeline.corpus.sources import Source
from pipeline.errors import ConfigError, MissingInputError
from pipeline.features import files_of_key

TITLES = ["One", "Two, with a comma", 'Three "quoted"', "Vier über"]
BODIES = ["first body", "second\nbody in two lines", "third; 'body'", "日本語 🙂 body"]
LABELS: list[Any] = [0.1, 2.5e-7, None, 1234567.875]
RECORDS = [{"title": t, "body": b, "score": s} for t, b, s in zip(TITLES, BODIES, LABELS, strict=True)]
EXPECTED = [(f"{t}\n\n{b}", None if s is None else repr(s)) for t, b, s in zip(TITLES, BODIES, LABELS, strict=True)]


@pytest.fixture(autouse=True)
def in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def make_source(kind: str, **fields: Any) -> Source:
    return TypeAdapter(AnySource).validate_python({"name": "s", "type": kind, **fields})


def read(source: Source) -> list[Document | Rejected]:
    section = IngestConfig(sources=[source])
    return [
        record
        for number, (_, parts) in enumerate(reading_tasks(section))
        for record in read_parts(source, parts, Path(f"scratch{number}"))
    ]


def content(source: Source) -> list[tuple[str, str | None]]:
    """Text and label of the documents of a source; none of its records is rejected."""
    records = read(source)
    assert [record for record in records if isinstance(record, Rejected)] == []
    return [(record.text, record.label) for record in records if isinstance(record, Document)]


def write_csv(path: Path, delimiter: str = ",") -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(RECORDS[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(RECORDS)


def write_arrow(path: Path, make: Callable[..., Any]) -> None:
    table = pa.Table.from_pylist(RECORDS)
    with make(str(path), table.schema) as writer:
        writer.write_table(table, max_chunksize=3)


WRITERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "a.jsonl": ("jsonl", lambda path: path.write_text("\n".join(map(json.dumps, RECORDS)))),
    "a.json": ("json", lambda path: path.write_text(json.dumps(RECORDS, indent=1))),
    "keyed.json": ("json", lambda path: path.write_text(json.dumps({str(n): r for n, r in enumerate(RECORDS)}))),
    "a.csv": ("csv", write_csv),
    "a.tsv": ("csv", lambda path: write_csv(path, "\t")),
    "a.parquet": ("parquet", lambda path: pq.write_table(pa.Table.from_pylist(RECORDS), path, row_group_size=3)),
    "file.arrow": ("arrow", lambda path: write_arrow(path, pa.ipc.new_file)),
    "stream.arrow": ("arrow", lambda path: write_arrow(path, pa.ipc.new_stream)),
}


@pytest.mark.parametrize("name", WRITERS)
def test_each_format_gives_the_same_documents(name: str) -> None:
    kind, write = WRITERS[name]
    write(Path(name))
    source = make_source(kind, paths=[name], text_template="{title}\n\n{body}", label_field="score")
    assert content(source) == EXPECTED
    assert [float(label) for _, label in content(source) if label] == [s for s in LABELS if s is not None]
    assert content(make_source(kind, paths=[name], text_field="body")) == [(body, None) for body in BODIES]


def compress(path: Path) -> list[str]:
    data = path.read_bytes()
    half = len(data) // 2
    # Two members one after the other are one file, as `cat` makes them.
    packed = {
        "gz": gzip.compress(data[:half]) + gzip.compress(data[half:]),
        "bz2": bz2.compress(data[:half]) + bz2.compress(data[half:]),
        "xz": lzma.compress(data[:half]) + b"\0" * 8 + lzma.compress(data[half:]) + b"\0" * 4,
        "zst": pa.Codec("zstd").compress(data, asbytes=True),
    }
    for ending, content in packed.items():
        Path(f"{path}.{ending}").write_bytes(content)
    return list(packed)


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.tsv"])
def test_compressed_files_give_the_same_documents(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.corpus.readers.decompression.CHUNK_BYTES", 10)
    kind, write = WRITERS[name]
    write(Path(name))
    for ending in compress(Path(name)):
        source = make_source(kind, paths=[f"{name}.{ending}"], text_template="{title}\n\n{body}", label_field="score")
        assert content(source) == EXPECTED, ending


def test_compressed_text_is_read_whole_or_cut() -> None:
    Path("a.txt").write_text("one\n\ntwo ü\n\nthree")
    for ending in compress(Path("a.txt")):
        assert content(make_source("text", paths=[f"a.txt.{ending}"])) == [("one\n\ntwo ü\n\nthree", None)]
        cut = make_source("text", paths=[f"a.txt.{ending}"], separator="\n\n")
        assert [text for text, _ in content(cut)] == ["one", "two ü", "three"]


def test_a_folder_stands_for_its_files_of_the_type_at_any_depth() -> None:
    for name in ("data/b.jsonl", "data/deep/a.jsonl.gz", "data/.hidden.jsonl", "data/.git/c.jsonl", "data/README"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(gzip.compress(b'{"text": "a"}') if name.endswith("gz") else b'{"text": "b"}')
    source = make_source("jsonl", paths=["data"])
    assert list(source.find_files().values()) == ["data/b.jsonl", "data/deep/a.jsonl.gz"]
    assert content(source) == [("b", None), ("a", None)]
    absolute = make_source("jsonl", paths=[str(Path("data").absolute())])
    assert list(absolute.find_files().values()) == ["b.jsonl", "deep/a.jsonl.gz"]
    with pytest.raises(
        MissingInputError, match=r"no file below data ends in \.parquet; it has 3 others, such as README"
    ):
        make_source("parquet", paths=["data"]).find_files()


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("{title.__class__}", r"has \{title\.__class__\}; only the plain name"),
        ("{title[0]}", "only the plain name"),
        ("{title!r}", r"has \{title!r\}; only the plain name"),
        ("{title:>1000000000}", "only the plain name"),
        ("{}", "only the plain name"),
        ("{title", "write a brace itself as"),
        ("no field", "names no field"),
    ],
)
def test_templates_take_nothing_but_names(template: str, problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        make_source("jsonl", paths=["a"], text_template=template)


def test_a_template_and_a_field_exclude_each_other() -> None:
    with pytest.raises(ValidationError, match="text_field and text_template are both given"):
        make_source("jsonl", paths=["a"], text_field="x", text_template="{x}")


def test_a_source_with_a_template_is_the_same_when_read_from_a_whole_configuration() -> None:
    source = make_source("jsonl", paths=["a"], text_template="{x}")
    assert make_source("jsonl", **source.model_dump(exclude={"type"})) == source


def test_templates_join_fields_and_need_all_of_them() -> None:
    lines = ['{"a": "x", "n": 3}', '{"a": "x"}', '{"a": "x", "n": null}', '{"a": "x", "n": [1]}', '{"a": "", "n": " "}']
    Path("a.jsonl").write_text("\n".join(lines))
    first, *rest = read(make_source("jsonl", paths=["a.jsonl"], text_template="{{{a}}} {n}"))
    assert isinstance(first, Document)
    assert first.text == "{x} 3"
    reasons = ["no field 'n'", "field 'n' is null", "field 'n' is not text", "empty text"]
    assert [record.reason for record in rest if isinstance(record, Rejected)] == reasons
    assert [record.detail for record in rest if isinstance(record, Rejected)] == ["it has a", "", "", ""]


def test_limits_cut_a_source_off_in_order() -> None:
    Path("a.jsonl").write_text("".join(f'{{"text": "{n:04d}"}}\n' for n in range(50)))
    Path("b.jsonl").write_text('{"text": "other"}\n')

    def texts(**limits: int) -> list[str]:
        return [text for text, _ in content(make_source("jsonl", paths=["*.jsonl"], **limits))]

    assert texts(max_documents=3) == ["0000", "0001", "0002"]
    assert texts(max_bytes=11) == ["0000", "0001"]
    assert texts(max_bytes=12, max_documents=2) == ["0000", "0001"]
    assert len(texts(max_documents=100)) == 51
    assert texts(max_bytes=1) == []


def test_rows_of_csv_files_are_named_by_line_and_checked_one_by_one() -> None:
    Path("a.csv").write_bytes(
        b'\xef\xbb\xbftext,label\r\n"two\r\nlines",1\r\n\r\nshort\r\n,x\r\nb\xffd,x\r\n'
        b'"open" x,y\r\nlast,2\r\n"never closed'
    )
    records = read(make_source("csv", paths=["a.csv"], label_field="label"))
    assert [(r.origin, r.reason if isinstance(r, Rejected) else r.text) for r in records] == [
        ("a.csv:2", "two\r\nlines"),
        ("a.csv:5", "wrong number of fields"),
        ("a.csv:6", "field 'text' is null"),
        ("a.csv:7", "not UTF-8"),
        ("a.csv:8", "malformed row"),
        ("a.csv:9", "last"),
        ("a.csv:10", "malformed row"),
    ]


def test_csv_files_without_header_or_quotes() -> None:
    Path("a.tsv").write_text('3\tsays "hi\n4\tb"ye\n')
    source = make_source("csv", paths=["a.tsv"], column_names=["label", "text"], label_field="label", quotechar=None)
    assert content(source) == [('says "hi', "3"), ('b"ye', "4")]


@pytest.mark.parametrize("chunk", [1, 7, 1 << 20])
def test_json_is_parsed_piece_by_piece(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr("pipeline.corpus.readers.decompression.CHUNK_BYTES", chunk)
    good = ' \n[ {"text": "ü [1] \\" }"} ,\n3, {"text": "two", "n": [1, {"a": 12}]}, {}, {"text": '
    Path("a.json").write_bytes(good.encode() + b'"\xff"} ]\n')
    records = read(make_source("json", paths=["a.json"]))
    assert [(r.origin, r.reason if isinstance(r, Rejected) else r.text) for r in records] == [
        ("a.json#1", 'ü [1] " }'),
        ("a.json#2", "not a JSON object"),
        ("a.json#3", "two"),
        ("a.json#4", "no field 'text'"),
        ("a.json#5", "not UTF-8"),
    ]
    Path("a.json").write_text('{"version": {"a": 1}, "data": [{"text": "one"}, {"text": "two"}], "n": 12}')
    assert content(make_source("json", paths=["a.json"], field="data")) == [("one", None), ("two", None)]
    Path("a.json").write_text('{"text": "alone", "n": {"a": 1}}')
    assert content(make_source("json", paths=["a.json"])) == [("alone", None)]
    for empty in ("[]", "{}", " "):
        Path("a.json").write_text(empty)
        assert content(make_source("json", paths=["a.json"])) == []


@pytest.mark.parametrize(
    ("text", "reason", "detail"),
    [
        ('[{"text": "one"}, {"text": ', "not valid JSON", "record 2"),
        ('[{"text": "one"} {"text": "two"}]', "not valid JSON", "'{' where ',' belongs"),
        ('[{"text": "one"}', "not valid JSON", "the end of the file where ',' belongs"),
        ('[{"text": "one"}, ' + "[" * 100_000, "not valid JSON", "record 2 is nested too deeply"),
        ('{"text": "one"}\n{"text": "two"}\n', "more than one JSON value", "say type: jsonl"),
        ('{"a": {"text": "one"}, b: 1}', "not valid JSON", "no key before member 2"),
    ],
)
def test_json_that_breaks_off_keeps_what_came_before(text: str, reason: str, detail: str) -> None:
    Path("a.json").write_text(text, errors="surrogateescape")
    first, last = read(make_source("json", paths=["a.json"]))
    assert isinstance(first, Document)
    assert first.text == "one"
    assert isinstance(last, Rejected)
    assert last.reason == reason
    assert detail in last.detail
    assert last.lost_bytes == Path("a.json").stat().st_size


def test_tables_of_many_types() -> None:
    table = pa.table(
        {
            "text": pa.array([b"one", b"b\xffd", None, b"four"], pa.binary()),
            "kind": pa.array(["x", "y", "x", None]).dictionary_encode(),
            "nested": pa.array([[{"a": 1}], None, [], [{"a": 2}]]),
            "price": pa.array([Decimal("0.10"), None, None, Decimal("2.00")]).cast(pa.decimal128(5, 2)),
        }
    )
    pq.write_table(table, "a.parquet")
    with pa.ipc.new_file("a.arrow", table.schema) as writer:
        writer.write_table(table)
    for kind in ("parquet", "arrow"):
        records = read(make_source(kind, paths=[f"a.{kind}"], label_field="kind"))
        assert [r.reason if isinstance(r, Rejected) else (r.text, r.label) for r in records] == [
            ("one", "x"),
            "not UTF-8",
            "field 'text' is null",
            ("four", None),
        ]
        assert [r.origin for r in records] == [f"a.{kind}#{n}" for n in (1, 2, 3, 4)]
        nested = read(make_source(kind, paths=[f"a.{kind}"], label_field="nested"))
        assert [r.label for r in nested if isinstance(r, Document)] == ['[{"a": 1}]', '[{"a": 2}]']
        exact = read(make_source(kind, paths=[f"a.{kind}"], label_field="price"))
        assert [r.label for r in exact if isinstance(r, Document)] == ["0.1", "2"]
        wrong = read(make_source(kind, paths=[f"a.{kind}"], text_field="nested"))
        assert {r.reason for r in wrong if isinstance(r, Rejected)} == {
            "field 'nested' is not text",
            "field 'nested' is null",
        }


def test_datasets_of_the_hub_are_pinned() -> None:
    with pytest.raises(ConfigError, match=r"needs `revision`, a commit: `git ls-remote .*datasets/owner/name HEAD`"):
        files_of_key([make_source("hub", path="owner/name")])
    assert files_of_key([make_source("hub", path="owner/name", revision="a" * 40)]) == {}
    with pytest.raises(MissingInputError, match="'imdb' is neither a folder nor owner/name"):
        files_of_key([make_source("hub", path="imdb")])
    with pytest.raises(ValidationError, match="revision"):
        make_source("hub", path="owner/name", revision="main")
    Path("here").mkdir()
    with pytest.raises(ConfigError, match="revision is for datasets of the hub"):
        files_of_key([make_source("hub", path="here", revision="a" * 40)])
    with pytest.raises(MissingInputError, match="the folder here is empty"):
        files_of_key([make_source("hub", path="here")])


def test_listing_the_files_of_all_sources_imports_nothing_heavy() -> None:
    for name in ("a.jsonl", "a.csv", "a.parquet", "hub/data.jsonl"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text("x")
    program = (
        "import sys\n"
        "from pipeline.corpus.ingest_config import IngestConfig\n"
        "from pipeline.features import files_of_key\n"
        "kinds = {'jsonl': 'a.jsonl', 'csv': 'a.csv', 'parquet': 'a.parquet'}\n"
        "sources = [{'name': kind, 'type': kind, 'paths': [path]} for kind, path in kinds.items()]\n"
        "sources.append({'name': 'hub', 'type': 'hub', 'path': 'hub'})\n"
        "assert len(files_of_key(IngestConfig(sources=sources).sources)) == 4\n"
        "assert not {'numpy', 'pyarrow', 'datasets', 'torch'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
