"""Compressed files: whole ones are read whatever tool wrote them, others are refused with what to do."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from corpus.test_formats import content, make_source, read

from pipeline.corpus.documents import Rejected

RANDOM = random.Random(3)
LINES = [f'{{"text": "line {n} {RANDOM.randbytes(20).hex()}"}}\n'.encode() for n in range(40)]
TEXTS = [(line[10:-3].decode(), None) for line in LINES]
DATA, HALF = b"".join(LINES), sum(map(len, LINES[:20])) + 7

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": lambda data: pa.Codec("zstd").compress(data, asbytes=True),
}
TOOLS = {"gz": "gzip", "bz2": "bzip2", "xz": "xz", "zst": "zstd"}
SKIPPABLE = b"\x50\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"hello"


@pytest.fixture(autouse=True)
def in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def rejection(name: str, data: bytes) -> tuple[str, str]:
    """Reason and details for which a whole file is refused; what was read before has to be right."""
    Path(name).write_bytes(data)
    *before, last = read(make_source("jsonl", paths=[name]))
    assert [None if isinstance(r, Rejected) else (r.text, r.label) for r in before] == TEXTS[: len(before)]
    assert isinstance(last, Rejected)
    assert (last.origin, last.lost_bytes) == (name, len(data))
    return last.reason, last.detail


def test_padding_with_zeros_is_whole_for_the_library_too() -> None:
    assert gzip.decompress(gzip.compress(DATA) + b"\0" * 512) == DATA


@pytest.mark.parametrize("chunk", [1, 11, 1 << 20])
@pytest.mark.parametrize("kind", COMPRESS)
def test_what_is_whole_is_read(kind: str, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.corpus.readers.decompression.CHUNK_BYTES", chunk)
    monkeypatch.setattr("pipeline.corpus.readers.compression.READ_BYTES", chunk)
    pack = COMPRESS[kind]
    first, second, empty = pack(DATA[:HALF]), pack(DATA[HALF:]), pack(b"")
    whole = {"one": pack(DATA), "two": first + second, "empty ones": empty + first + empty + second + empty}
    if kind == "zst":
        whole |= {"skipped frames": SKIPPABLE + first + SKIPPABLE + second + SKIPPABLE}
    else:
        whole |= {"padded": pack(DATA) + b"\0" * 512, "padded inside": first + b"\0" * 8 + second + b"\0" * 4}
    for name, data in whole.items():
        Path(f"a.jsonl.{kind}").write_bytes(data)
        assert content(make_source("jsonl", paths=[f"a.jsonl.{kind}"])) == TEXTS, name


@pytest.mark.parametrize("kind", COMPRESS)
def test_what_breaks_off_is_never_taken_for_whole(kind: str) -> None:
    data = COMPRESS[kind](DATA)
    for end in [*range(10, len(data), 97), *range(len(data) - 12, len(data))]:
        assert rejection(f"a.jsonl.{kind}", data[:end])[0] == f"not a whole .{kind} file", end


@pytest.mark.parametrize("kind", COMPRESS)
def test_what_follows_the_end_is_told(kind: str) -> None:
    for more in (b"x", b"more than ten bytes", b"\x1f", b"\xff" * 2000):
        reason, detail = rejection(f"a.jsonl.{kind}", COMPRESS[kind](DATA) + more)
        assert reason == f"more behind the end of its .{kind} data"
        assert detail == f"`{TOOLS[kind]} -dc OLD | {TOOLS[kind]} > NEW` leaves it out"


@pytest.mark.parametrize("kind", COMPRESS)
def test_names_that_say_something_else(kind: str) -> None:
    assert rejection(f"a.jsonl.{kind}", DATA) == (
        f"not a .{kind} file",
        f"it begins like text: take .{kind} off its name",
    )
    for other in COMPRESS.keys() - {kind}:
        wrong = f"it is compressed with {TOOLS[other]}: let its name end in .{other}"
        assert rejection(f"a.jsonl.{kind}", COMPRESS[other](DATA)) == (f"not a .{kind} file", wrong)
    assert rejection("a.jsonl", COMPRESS[kind](DATA)) == (
        f"compressed with {TOOLS[kind]}",
        f"let its name end in .{kind}",
    )
    for inner in COMPRESS:  # whose name ends as it should
        advice = f"decompress it once, and let its name end in .{inner}"
        assert rejection(f"a.jsonl.{kind}", COMPRESS[kind](COMPRESS[inner](DATA))) == ("compressed twice", advice)


def archives() -> dict[str, bytes]:
    zipped, tarred, parquet = io.BytesIO(), io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("a.jsonl", DATA)
    with tarfile.open(fileobj=tarred, mode="w") as tar:
        info = tarfile.TarInfo("a.jsonl")
        info.size = len(DATA)
        tar.addfile(info, io.BytesIO(DATA))
    pq.write_table(pa.table({"text": ["a"]}), parquet)
    return {"a zip archive": zipped.getvalue(), "an archive of tar": tarred.getvalue(), "parquet": parquet.getvalue()}


def test_archives_and_tables_are_named() -> None:
    for what, data in archives().items():
        reason, detail = rejection("a.jsonl", data)
        assert what in reason
        assert detail == ("say type: parquet" if what == "parquet" else "take the text out of it first")
    assert rejection("a.jsonl.gz", gzip.compress(archives()["an archive of tar"]))[0] == "an archive of tar"
    zipped = "it is a zip archive (or a table of Excel): take the text out of it first"
    assert rejection("a.jsonl.gz", archives()["a zip archive"]) == ("not a .gz file", zipped)


def test_what_takes_too_much_memory_is_not_called_broken() -> None:
    large = lzma.compress(DATA, filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 29}])
    block = (len(DATA) << 3 | 1).to_bytes(3, "little") + DATA
    wide = b"\x28\xb5\x2f\xfd\x00" + bytes([(31 - 10) << 3]) + block  # a window of 2**31 bytes, and one block as it is
    for name, data in (("a.jsonl.xz", large), ("a.jsonl.zst", wide)):
        reason, detail = rejection(name, data)
        assert (reason, detail) == (
            "takes too much memory to decompress",
            "pack it with a smaller dictionary or window",
        )
