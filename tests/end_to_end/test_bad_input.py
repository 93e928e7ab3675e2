"""Bad and hostile input files: the right exit code and one clear line, or counted with place and reason."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import random
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.cli import main

RANDOM = random.Random(1)
GOOD = "".join(json.dumps({"text": f"good text number {n} " + RANDOM.randbytes(40).hex()}) + "\n" for n in range(400))
CONFIG = """\
run: {{name: bad, seed: 1}}
ingest: {{sources: [{{name: s, type: {kind}, paths: ["{path}"]}}]}}
model: {{architecture: llama}}
train: {{max_steps: 1}}
"""


@pytest.fixture(autouse=True)
def in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def ingest(kind: str, path: str, *overrides: str) -> int:
    Path("bad.yaml").write_text(CONFIG.format(kind=kind, path=path))
    try:
        main(["run", "bad.yaml", "--only", "ingest", *overrides])
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def rejected() -> list[dict[str, str]]:
    (path,) = Path("workspace/artifacts/ingest").glob("*/rejected.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


def parquet(**options: object) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"text": [f"text {n} {RANDOM.randbytes(30).hex()}" for n in range(2000)]}), sink, **options)
    return bytes(sink.getvalue())


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes(byte ^ 0xFF for byte in data[at : at + 200]) + data[at + 200 :]


def gzip_bomb() -> bytes:
    """A hundred kilobytes of gzip that grow to a hundred megabytes of white space."""
    return gzip.compress(b" " * 100_000_000)


def parquet_bomb() -> bytes:
    """Two thousand rows that share one text of half a megabyte."""
    sink = pa.BufferOutputStream()
    column = pa.DictionaryArray.from_arrays(
        pa.array([0] * 2000, pa.int32()), pa.array([RANDOM.randbytes(250_000).hex()])
    )
    pq.write_table(pa.table({"text": column}), sink)
    return bytes(sink.getvalue())


def arrow() -> bytes:
    sink = pa.BufferOutputStream()
    table = pa.table({"text": [f"text {n}" for n in range(500)]})
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


CASES: dict[str, tuple[Callable[[], bytes], str, str]] = {
    # name of the file, which tells its type: content, where in it something is rejected, reason
    "utf8.jsonl": (lambda: b'{"text": "ok"}\n{"text": "b\xffd"}\n', ":2", "not UTF-8"),
    "broken.jsonl": (lambda: b'{"text": "ok"}\n{"text": "br\n', ":2", "not valid JSON"),
    "field.jsonl": (lambda: b'{"txt": "ok"}\n', ":1", "no field 'text'"),
    "type.jsonl": (lambda: b'{"text": ["ok"]}\n', ":1", "field 'text' is not text"),
    "null.jsonl": (lambda: b'{"text": null}\n', ":1", "field 'text' is null"),
    "blank.jsonl": (lambda: b'{"text": " \\n "}\n', ":1", "empty text"),
    "deep.jsonl": (lambda: b'{"text": ' + b"[" * 200_000 + b"\n", ":1", "not valid JSON"),
    "digits.jsonl": (lambda: b'{"text": "ok", "n": ' + b"9" * 5000 + b"}\n", ":1", "not valid JSON"),
    "nul.jsonl": (lambda: b'{"text": "a\\u0000b"}\n', ":1", "text has NUL bytes"),
    "nul.txt": (lambda: b"a\0b", "", "text has NUL bytes"),
    "utf16.txt": (lambda: "some text".encode("utf-16"), "", "UTF-16, not UTF-8"),
    "utf16.csv": (lambda: "text\nsome".encode("utf-16-be"), "", "UTF-16BE, not UTF-8"),
    "mark.csv": (lambda: b"\xfe\xff" + "text\nsome".encode("utf-16-be"), "", "UTF-16, not UTF-8"),
    "empty.jsonl": (lambda: b"", "", "empty file"),
    "empty.parquet": (lambda: b"", "", "empty file"),
    "cut.jsonl.gz": (lambda: gzip.compress(GOOD.encode())[:-2000], "", "not a whole .gz file"),
    "cut.jsonl.bz2": (lambda: bz2.compress(GOOD.encode())[:-20], "", "not a whole .bz2 file"),
    "cut.jsonl.xz": (lambda: lzma.compress(GOOD.encode())[:-20], "", "not a whole .xz file"),
    "cut.jsonl.zst": (lambda: pa.Codec("zstd").compress(GOOD.encode(), asbytes=True)[:-20], "",
        "not a whole .zst file"),
    "plain.jsonl.gz": (lambda: GOOD.encode(), "", "not a .gz file"),
    "packed.jsonl": (lambda: gzip.compress(GOOD.encode()), "", "compressed with gzip"),
    "bomb.jsonl.gz": (gzip_bomb, "", "grows too much"),
    "bomb.parquet": (parquet_bomb, "", "grows too much"),
    "cut.parquet": (lambda: parquet()[:-30], "", "not a whole Parquet file"),
    "flipped.parquet": (lambda: flipped(parquet(write_page_checksum=True), 40_000), "", "not a whole Parquet file"),
    "column.parquet": (lambda: parquet().replace(b"text", b"txet"), "", "no column 'text'"),
    "cut.arrow": (lambda: arrow()[:-300], "", "not a whole Arrow file"),
    "offsets.arrow": (lambda: flipped(arrow(), 1000), "", "not a whole Arrow file"),
    "ragged.csv": (lambda: b"text,n\nok,1\nbad\n", ":3", "wrong number of fields"),
    "quotes.csv": (lambda: b'text,n\n"never closed,1\nbad,2\n', ":2", "malformed row"),
    "header.csv": (lambda: b"one,1\ntwo,2\n", ":1", "no column 'text'"),
    "twice.csv": (lambda: b"text,text\na,b\n", ":1", "column 'text' stands in it more than once"),
    "lines.json": (lambda: b'{"text": "a"}\n{"text": "b"}\n', "#2", "more than one JSON value"),
    "cut.json": (lambda: b'[{"text": "a"}, {"te', "", "not valid JSON"),
    "deep.json": (lambda: b"[" * 200_000, "", "not valid JSON"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_bad_files_are_named_or_counted(
    name: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pipeline.corpus.readers.decompression.ALWAYS_ALLOWED_BYTES", 10_000_000)
    make, place, reason = CASES[name]
    kind, origin = name.split(".")[1].replace("txt", "text"), f"{name}{place}"
    Path(name).write_bytes(make())
    assert ingest(kind, name) == 65
    (line,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("descent: ")]
    assert "Traceback" not in line
    assert origin in line
    assert reason in line
    # Beside enough that is good, or when the configuration bears it, it is counted and listed.
    Path("good").mkdir()
    Path(f"good/{name}").write_bytes(make())
    Path("good/other.txt").write_text("good text")
    code = ingest(kind, f"good/{name}", "ingest.max_rejected_fraction=1.0")
    error = capfd.readouterr().err
    if code == 65:
        assert "the sources hold no document" in error
    else:
        assert code == 0, error
        (path,) = Path("workspace/artifacts/ingest").glob("*/rejected.jsonl")
        assert f"ingest: what was rejected is listed in {path}\n" in error
        (entry,) = rejected()
        assert entry["origin"] == f"good/{origin}"
        assert entry["reason"] == reason


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


def make_socket(path: Path) -> None:
    socket.socket(socket.AF_UNIX).bind(path.name)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (make_fifo, "x.jsonl is a FIFO, not a regular file"),
        (make_socket, "x.jsonl is a socket, not a regular file"),
        (lambda path: path.symlink_to("/dev/zero"), "x.jsonl is a device, not a regular file"),
        (lambda path: path.symlink_to("nowhere"), "cannot read x.jsonl, a link to nowhere: No such file"),
        (lambda path: path.symlink_to("x.jsonl"), "cannot read x.jsonl, a link to x.jsonl: Too many levels"),
        (lambda path: path.mkdir(), "no file below x.jsonl ends in .jsonl or .ndjson"),
        (lambda path: None, "'x.jsonl' matches no file"),
    ],
)
@pytest.mark.parametrize("pattern", ["x.jsonl", "*.jsonl"])
def test_what_is_no_file_is_told_before_anything_runs(
    make: Callable[[Path], object], reason: str, pattern: str, capfd: pytest.CaptureFixture[str]
) -> None:
    make(Path("x.jsonl"))
    if pattern == "*.jsonl" and ("below" in reason or "matches" in reason):
        reason = "'*.jsonl' matches no file"
    assert ingest("jsonl", pattern) == 66
    (line,) = [line for line in capfd.readouterr().err.splitlines() if line]
    assert reason in line


def test_a_folder_that_cannot_be_listed_is_not_passed_over(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("data/closed").mkdir(parents=True)
    Path("data/a.jsonl").write_text(GOOD)
    scandir = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr("os.scandir", refuse)
    assert ingest("jsonl", "data") == 66
    assert "cannot list data/closed: Permission denied" in capfd.readouterr().err


def test_an_unreadable_part_of_a_corpus_may_be_no_larger_than_rejected_records_may(
    capfd: pytest.CaptureFixture[str],
) -> None:
    Path("data").mkdir()
    for name in "abc":
        Path(f"data/{name}.jsonl").write_text(GOOD)
    Path("data/z.jsonl.gz").write_bytes(gzip.compress(GOOD.encode())[:-100])
    # One rejection beside 1,200 records is few, but a tenth of the bytes is not.
    assert ingest("jsonl", "data") == 65
    error = capfd.readouterr().err
    assert "bytes of s are in files that cannot be read whole, the first is data/z.jsonl.gz" in error
    assert ingest("jsonl", "data", "ingest.max_rejected_fraction=0.3") == 0


MEASURE = """\
import resource, sys
from pathlib import Path
from pipeline.corpus.ingest_config import IngestConfig
from pipeline.progress import Progress
from pipeline.engine.stage import StageContext
from pipeline.stages.ingest import STAGE

def ingest(kind, paths, output):
    source = {"name": "s", "type": kind, "paths": paths}
    section = IngestConfig.model_validate({"sources": [source], "max_rejected_fraction": 1.0})
    Path(output).mkdir()
    summary = STAGE.run(StageContext(section, 0, {}, Path(output), None, 1, Progress("ingest", open("said", "w"))))
    return summary, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

kind, small, large = sys.argv[1:]
_, before = ingest(kind, [small], "small")
summary, after = ingest(kind, [small, large], "large")
print(summary["documents_out"], sum(summary["rejected"].values()), after - before)
"""


def measure(kind: str, small: str, large: str) -> tuple[int, int, int]:
    """Documents, rejected records, and the peak of memory above that of a small file."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, kind, small, large], capture_output=True, text=True, check=True
    )
    documents, rejects, peak = map(int, done.stdout.split())
    return documents, rejects, peak


def write_large(kind: str, size: int) -> tuple[str, str]:
    """A small file, and one with a record of `size` bytes among small ones."""
    text = ("a line of words, " * (size // 17 + 1))[: size - 100]
    for name, middle in (("small", "middle"), ("large", text)):
        texts = ["first", middle, "last"]
        if kind == "jsonl":
            Path(f"{name}.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in texts))
        elif kind == "json":
            Path(f"{name}.json").write_text(json.dumps([{"text": t} for t in texts]))
        elif kind == "csv":
            Path(f"{name}.csv").write_text("\n".join(["text", *(f'"{t}"' for t in texts)]))
        elif kind == "text":
            Path(f"{name}.text").write_text(middle)
        else:
            pq.write_table(pa.table({"text": texts}), f"{name}.parquet")
    return f"small.{kind}", f"large.{kind}"


@pytest.mark.parametrize("kind", ["jsonl", pytest.param("json", marks=pytest.mark.slow)])
def test_a_long_record_is_in_memory_less_than_four_times(kind: str) -> None:
    size = 40_000_000
    documents, rejects, peak = measure(kind, *write_large(kind, size))
    assert (documents, rejects) == (6, 0)
    assert peak < 4 * size


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "text", "parquet"])
@pytest.mark.parametrize("size", [100_000_000, 130_000_000])
def test_a_record_of_100_megabytes(kind: str, size: int) -> None:
    documents, rejects, peak = measure(kind, *write_large(kind, size))
    assert peak < 4 * size
    num_small = 1 if kind == "text" else 3
    if size > 100_000_000 or kind == "csv":
        assert rejects == 1
        assert documents - num_small == {"text": 0, "json": 1}.get(kind, 2)
    else:
        assert rejects == 0
        assert documents == 2 * num_small
