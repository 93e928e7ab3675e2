"""Sources become documents; what is unusable is rejected with its place and reason."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from pipeline.corpus.docstrings import MIN_REPEAT_CHARS, library_files, read_python_docs
from pipeline.corpus.documents import Document, FilePart, Rejected
from pipeline.corpus.ingest_config import IngestConfig
from pipeline.corpus.readers.reading_jobs import read_parts, reading_tasks
from pipeline.corpus.sources import Source
from pipeline.corpus.sources.jsonl import Jsonl
from pipeline.corpus.sources.text import Text
from pipeline.errors import BadDataError, MissingInputError
from pipeline.features import files_of_key


@pytest.fixture(autouse=True)
def in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def text_source(**fields: object) -> Text:
    return Text.model_validate({"name": "s", "type": "text", "paths": ["*.txt"], **fields})


def jsonl_source(**fields: object) -> Jsonl:
    return Jsonl.model_validate({"name": "s", "type": "jsonl", "paths": ["*.jsonl"], **fields})


def read_file(source: Source, path: Path) -> list[Document | Rejected]:
    return list(read_parts(source, [FilePart(path, path.as_posix(), 0, path.stat().st_size)], Path("scratch")))


def read_all(source: Source) -> list[Document | Rejected]:
    tasks = reading_tasks(IngestConfig(sources=[source]))
    return [record for task_source, parts in tasks for record in read_parts(task_source, parts, Path("scratch"))]


def test_a_text_file_is_one_document_without_a_separator() -> None:
    Path("a.txt").write_bytes("Grüße\r\n\n  two\n".encode())
    (document,) = read_file(text_source(), Path("a.txt"))
    assert isinstance(document, Document)
    assert document.text == "Grüße\r\n\n  two\n"
    assert (document.source, document.origin) == ("s", "a.txt")


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_separators_are_found_wherever_chunks_end(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr("pipeline.corpus.readers.decompression.CHUNK_BYTES", size)
    Path("a.txt").write_text("one\n--\ntwo, ü\n--\n\n--\nthree")
    documents = list(read_file(text_source(separator="\n--\n"), Path("a.txt")))
    assert [d.text for d in documents if isinstance(d, Document)] == ["one", "two, ü", "three"]
    assert [d.origin for d in documents] == ["a.txt#1", "a.txt#2", "a.txt#4"]


def test_undecodable_pieces_are_rejected_and_the_rest_is_read() -> None:
    Path("a.txt").write_bytes(b"good\n\nb\xffd\n\nalso good")
    records = list(read_file(text_source(separator="\n\n"), Path("a.txt")))
    assert [type(record) for record in records] == [Document, Rejected, Document]
    assert (records[1].origin, records[1].reason) == ("a.txt#2", "not UTF-8")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"text": "x"', "not valid JSON"),
        (b"[1, 2]", "not a JSON object"),
        (b'{"body": "x"}', "no field 'text'"),
        (b'{"text": null}', "field 'text' is null"),
        (b'{"text": 3}', "field 'text' is not text"),
        (b'{"text": "  "}', "empty text"),
        (b'{"text": "\\ud800"}', "text has a lone surrogate"),
        (b'{"text": "\xff"}', "not UTF-8"),
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


def test_a_field_can_say_to_what_a_document_belongs() -> None:
    Path("a.jsonl").write_text('{"text": "x", "of": 3.0}\n{"text": "y"}\n{"text": "z", "of": "\\u0000"}\n')
    first, second, third = read_file(jsonl_source(group_field="of"), Path("a.jsonl"))
    assert isinstance(first, Document)
    assert isinstance(second, Document)
    assert (first.group, second.group) == ("3", None)
    assert isinstance(third, Rejected)
    assert third.reason == "group has NUL bytes"


def test_identifiers_are_stable_and_differ_by_content_and_origin() -> None:
    Path("a.jsonl").write_text('{"text": "x"}\n{"text": "x"}\n')
    first, second = read_file(jsonl_source(), Path("a.jsonl"))
    assert isinstance(first, Document)
    assert isinstance(second, Document)
    assert first.id != second.id
    again = read_file(jsonl_source(), Path("a.jsonl"))[0]
    assert isinstance(again, Document)
    assert again.id == first.id


def test_a_pattern_without_files_is_named() -> None:
    with pytest.raises(MissingInputError, match=r"s: 'none/\*\.txt' matches no file"):
        text_source(paths=["none/*.txt"]).find_files()


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("bokks/a.txt", "; did you mean 'books'?"),
        ("books/chapter-one.text", "; did you mean 'books/chapter-one.txt'?"),
        ("boks", "; did you mean 'books'?"),
        ("books/zzz", "; mend the path"),
        ("books/*.md", "; mend the path"),
        ("bokks/*.md", "; did you mean 'books'?"),
        ("/zzz/zzz/zzz", "; mend the path"),
    ],
)
def test_the_nearest_name_to_a_path_that_is_not_there_is_told(path: str, hint: str) -> None:
    Path("books").mkdir()
    Path("books/chapter-one.txt").write_text("x")
    with pytest.raises(MissingInputError) as caught:
        text_source(paths=[path]).find_files()
    assert str(caught.value) == f"ingest.sources: s: {path!r} matches no file in {Path.cwd()}{hint}"


def test_a_record_without_the_field_says_which_it_has() -> None:
    Path("a.jsonl").write_text(json.dumps({f"column-{n:02d}{'x' * 90}": n for n in range(12)}))
    (record,) = read_file(jsonl_source(), Path("a.jsonl"))
    assert isinstance(record, Rejected)
    names = ", ".join(f"column-{n:02d}{'x' * 31}" for n in range(10))
    assert (record.reason, record.detail) == ("no field 'text'", f"it has {names} and 2 more")


def test_each_file_is_read_once_and_labelled() -> None:
    for name in ("b.txt", "a.txt"):
        Path(name).write_text(name)
    section = IngestConfig(sources=[text_source(paths=["b.txt", "*.txt"])])
    assert list(section.sources[0].find_files()) == [Path("b.txt"), Path("a.txt")]
    assert set(files_of_key(section.sources)) == {"a.txt", "b.txt"}


def test_files_are_grouped_by_size_and_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.corpus.readers.reading_jobs.SHARD_BYTES", 10)
    for name in "abcde":
        Path(f"{name}.txt").write_text("12345")
    groups = [[part.origin for part in parts] for _, parts in reading_tasks(IngestConfig(sources=[text_source()]))]
    assert groups == [["a.txt", "b.txt"], ["c.txt", "d.txt"], ["e.txt"]]


def test_python_docs_are_real_prose_from_every_part_of_the_library() -> None:
    texts = dict(read_python_docs(library_files()))
    assert sum(len(text) for text in texts.values()) > 1_500_000
    assert texts["textwrap.dedent"].startswith("textwrap.dedent\n\nRemove any common leading whitespace")
    assert "textwrap.TextWrapper.fill" in texts["textwrap.TextWrapper"]
    assert len(texts["topics.while"]) > 300
    assert not any(".test." in name for name in texts)


def test_no_paragraph_of_the_python_docs_stands_in_two_documents() -> None:
    owners: dict[str, set[str]] = {}
    for name, text in read_python_docs(library_files()):
        for paragraph in text.split("\n\n"):
            if len(folded := " ".join(paragraph.split())) >= MIN_REPEAT_CHARS:
                owners.setdefault(folded, set()).add(name)
    assert len(owners) > 5000
    assert {paragraph: names for paragraph, names in owners.items() if len(names) > 1} == {}


def test_large_files_are_cut_into_parts_that_give_the_same_records(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [json.dumps({"text": f"text {n} " + "x" * (n % 37)}) for n in range(300)]
    Path("a.jsonl").write_text("\n".join(["", *lines[:100], "{", *lines[100:]]))
    Path("a.txt").write_text("".join(f"text {n}--" for n in range(300)))
    for source in (jsonl_source(), text_source(separator="--")):
        monkeypatch.setattr("pipeline.corpus.readers.reading_jobs.SHARD_BYTES", 1 << 30)
        assert len(reading_tasks(IngestConfig(sources=[source]))) == 1
        whole = read_all(source)
        monkeypatch.setattr("pipeline.corpus.readers.reading_jobs.SHARD_BYTES", 100)
        assert len(reading_tasks(IngestConfig(sources=[source]))) > 10
        assert read_all(source) == whole
    assert whole[-1].origin == "a.txt#300"


def test_a_cut_at_the_end_of_a_file_leaves_no_empty_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.corpus.readers.reading_jobs.SHARD_BYTES", 10)
    Path("a.jsonl").write_text('{"text": "one"}\n{"text": "two"}\n')
    assert [type(record) for record in read_all(jsonl_source())] == [Document, Document]


@pytest.mark.parametrize("chunk", [1, 5, 1000])
def test_records_past_the_limit_are_rejected_without_reading_them(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr("pipeline.corpus.readers.records.MAX_RECORD_BYTES", 20)
    monkeypatch.setattr("pipeline.corpus.readers.decompression.CHUNK_BYTES", chunk)
    Path("a.txt").write_text("short<>" + "long " * 30 + "<>also short<>" + "end" * 20)
    records = read_file(text_source(separator="<>"), Path("a.txt"))
    assert [record.origin for record in records] == ["a.txt#1", "a.txt#2", "a.txt#3", "a.txt#4"]
    assert [r.reason if isinstance(r, Rejected) else r.text for r in records] == [
        "short",
        "longer than 20 bytes",
        "also short",
        "longer than 20 bytes",
    ]
    (whole,) = read_file(text_source(), Path("a.txt"))
    assert isinstance(whole, Rejected)
    assert whole.reason == "longer than 20 bytes"


def test_a_byte_order_mark_is_no_part_of_the_text() -> None:
    Path("a.jsonl").write_bytes(b'\xef\xbb\xbf{"text": "first"}\n')
    (record,) = read_file(jsonl_source(), Path("a.jsonl"))
    assert isinstance(record, Document)
    assert record.text == "first"


def test_documents_do_not_name_folders_of_the_machine(tmp_path: Path) -> None:
    (tmp_path / "data" / "books").mkdir(parents=True)
    for name in ("data/books/a.txt", "data/b.txt"):
        Path(name).write_text(name)
    for pattern in ("data/**/*.txt", "data/b.txt"):
        relative = text_source(paths=[pattern]).find_files()
        assert list(relative.values()) == [path.as_posix() for path in relative]
    assert list(text_source(paths=[f"{tmp_path}/data/**/*.txt"]).find_files().values()) == ["b.txt", "books/a.txt"]
    assert list(text_source(paths=[f"{tmp_path}/data/books/a.txt"]).find_files().values()) == ["a.txt"]


@pytest.mark.parametrize("is_absolute", [False, True])
def test_what_exists_as_it_is_written_is_no_wildcard(tmp_path: Path, is_absolute: bool) -> None:
    names = [
        "run [v2]/x.txt",
        "run [v2]/y [1].txt",
        "run [v2]/y 1.txt",
        "run v/x.txt",
        "run 2/x.txt",
        "a*/b?.txt",
        "ab/bc.txt",
    ]
    for name in names:
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(name)
    root = f"{tmp_path}/" if is_absolute else ""

    def found(pattern: str) -> dict[str, str]:
        return {path.read_text(): origin for path, origin in text_source(paths=[root + pattern]).find_files().items()}

    expected = {
        "run [v2]/x.txt": ["run [v2]/x.txt"],
        "run [v2]/*.txt": ["run [v2]/x.txt", "run [v2]/y 1.txt", "run [v2]/y [1].txt"],
        "run [v2]": ["run [v2]/x.txt", "run [v2]/y 1.txt", "run [v2]/y [1].txt"],
        "*/y [1].txt": ["run [v2]/y [1].txt"],
        "**/y [1].txt": ["run [v2]/y [1].txt"],
        "run [v2]/y [1].t*": ["run [v2]/y 1.txt"],  # which is not there, so a wildcard
        "run [0-9]/*.txt": ["run 2/x.txt"],
        "a*/*": ["a*/b?.txt"],
        "a*/b?.txt": ["a*/b?.txt"],
        "a[b]/b?.txt": ["ab/bc.txt"],
        "**": sorted(names),
        "**/*.txt": sorted(names),
        "**/**/x.txt": ["run 2/x.txt", "run [v2]/x.txt", "run v/x.txt"],
    }
    for pattern, names in expected.items():
        assert list(found(pattern)) == names, pattern
    if is_absolute:
        assert list(found("run [v2]/x.txt").values()) == ["x.txt"]
        assert list(found("run [v2]/*.txt").values()) == ["x.txt", "y 1.txt", "y [1].txt"]
        assert list(found("run [0-9]/*.txt").values()) == ["run 2/x.txt"]
    else:
        assert all(name == origin for name, origin in found("**").items())


def test_a_file_name_that_is_not_text_is_refused() -> None:
    Path(os.fsdecode(b"b\xff.txt")).write_text("x")
    with pytest.raises(BadDataError, match="is not UTF-8; rename the file"):
        text_source().find_files()
