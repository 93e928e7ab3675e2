"""Sources become documents; what is unusable is rejected with its place and reason."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.config.corpus import IngestConfig, JsonlSource, TextSource
from pipeline.corpus.documents import Document
from pipeline.corpus.python_docs import library_files, read_python_docs
from pipeline.corpus.readers import Rejected, read_file, reading_tasks
from pipeline.corpus.sources import labelled_files, source_files
from pipeline.errors import MissingInputError


@pytest.fixture(autouse=True)
def in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def text_source(**fields: object) -> TextSource:
    return TextSource.model_validate({"name": "s", "type": "text", "paths": ["*.txt"], **fields})


def jsonl_source(**fields: object) -> JsonlSource:
    return JsonlSource.model_validate({"name": "s", "type": "jsonl", "paths": ["*.jsonl"], **fields})


def test_a_text_file_is_one_document_without_a_separator() -> None:
    Path("a.txt").write_bytes("Grüße\r\n\n  two\n".encode())
    (document,) = read_file(text_source(), Path("a.txt"))
    assert isinstance(document, Document)
    assert document.text == "Grüße\r\n\n  two\n"
    assert (document.source, document.origin, document.weight) == ("s", "a.txt", 1.0)


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_separators_are_found_wherever_chunks_end(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr("pipeline.corpus.readers.CHUNK_BYTES", size)
    Path("a.txt").write_text("one\n--\ntwo, ü\n--\n\n--\nthree")
    documents = list(read_file(text_source(separator="\n--\n"), Path("a.txt")))
    assert [d.text for d in documents if isinstance(d, Document)] == ["one", "two, ü", "three"]
    assert [d.origin for d in documents] == ["a.txt#1", "a.txt#2", "a.txt#4"]


def test_undecodable_pieces_are_rejected_and_the_rest_is_read() -> None:
    Path("a.txt").write_bytes(b"good\n\nb\xffd\n\nalso good")
    records = list(read_file(text_source(separator="\n\n"), Path("a.txt")))
    assert [type(record) for record in records] == [Document, Rejected, Document]
    assert (records[1].origin, records[1].reason) == ("a.txt#2", "not UTF-8 at byte 1")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"text": "x"', "not valid JSON"),
        (b"[1, 2]", "not a JSON object"),
        (b'{"body": "x"}', "no field 'text'"),
        (b'{"text": null}', "no field 'text'"),
        (b'{"text": 3}', "field 'text' is not text"),
        (b'{"text": "  "}', "empty text"),
        (b'{"text": "\\ud800"}', "text has a lone surrogate"),
        (b'{"text": "\xff"}', "not UTF-8 at byte 10"),
        (b"[" * 100_000, "not valid JSON"),
    ],
)
def test_bad_json_lines_are_rejected_with_place_and_reason(line: bytes, reason: str) -> None:
    Path("a.jsonl").write_bytes(b'{"text": "first"}\n' + line + b'\n\n{"text": "last"}')
    records = list(read_file(jsonl_source(), Path("a.jsonl")))
    assert [type(record) for record in records] == [Document, Rejected, Document]
    assert (records[1].origin, records[1].reason) == ("a.jsonl:2", reason)
    json.dumps(records[1].excerpt)


def test_fields_of_json_lines_can_be_named() -> None:
    Path("a.jsonl").write_text('{"body": "x", "class": 3}\n{"body": "y", "class": "b"}\n')
    records = list(read_file(jsonl_source(text_field="body", label_field="class"), Path("a.jsonl")))
    assert [(record.text, record.label) for record in records if isinstance(record, Document)] == [
        ("x", "3"),
        ("y", "b"),
    ]


def test_identifiers_are_stable_and_differ_by_content_and_origin() -> None:
    Path("a.jsonl").write_text('{"text": "x"}\n{"text": "x"}\n')
    first, second = read_file(jsonl_source(), Path("a.jsonl"))
    assert isinstance(first, Document)
    assert isinstance(second, Document)
    assert first.id != second.id
    again = next(read_file(jsonl_source(), Path("a.jsonl")))
    assert isinstance(again, Document)
    assert again.id == first.id


def test_a_pattern_without_files_is_named() -> None:
    with pytest.raises(MissingInputError, match=r"s: 'none/\*\.txt' matches no file"):
        source_files(text_source(paths=["none/*.txt"]))


def test_each_file_is_read_once_and_labelled() -> None:
    for name in ("b.txt", "a.txt"):
        Path(name).write_text(name)
    section = IngestConfig(sources=[text_source(paths=["b.txt", "*.txt"])])
    assert source_files(section.sources[0]) == [Path("b.txt"), Path("a.txt")]
    assert set(labelled_files(section)) == {"a.txt", "b.txt"}


def test_files_are_grouped_by_size_and_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.corpus.readers.SHARD_BYTES", 10)
    for name in "abcde":
        Path(f"{name}.txt").write_text("12345")
    groups = [[path.name for path in files] for _, files in reading_tasks(IngestConfig(sources=[text_source()]))]
    assert groups == [["a.txt", "b.txt"], ["c.txt", "d.txt"], ["e.txt"]]


def test_python_docs_are_real_prose_from_every_part_of_the_library() -> None:
    texts = dict(document for path in library_files() for document in read_python_docs(path))
    assert sum(len(text) for text in texts.values()) > 1_500_000
    assert texts["textwrap.dedent"].startswith("textwrap.dedent\n\nRemove any common leading whitespace")
    assert "textwrap.TextWrapper.fill" in texts["textwrap.TextWrapper"]
    assert len(texts["topics.if"]) > 300
    assert not any(".test." in name for name in texts)
