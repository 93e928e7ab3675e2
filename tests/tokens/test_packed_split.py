from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from random import Random

import numpy as np
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st
from tokens.artifacts import packed, write_streams

from pipeline.errors import BadDataError, DamageError, MissingInputError
from pipeline.tokens.packed_split import PackedSplit
from pipeline.tokens.packing import pack_contiguous
from pipeline.tokens.token_streams import StreamWriter, TokenStream, id_dtype


@settings(max_examples=40, deadline=None)
@given(num_tokens=st.integers(2, 60), block_size=st.integers(1, 20))
def test_every_token_but_the_first_is_a_target_once(num_tokens: int, block_size: int) -> None:
    ids = list(range(2, num_tokens + 2))
    with tempfile.TemporaryDirectory() as folder:
        split = packed(Path(folder), [ids], block_size, vocab_size=100)
        batch = split.batch(range(len(split)))
    targets = batch["labels"][batch["labels"] != -100]
    assert Counter(targets.tolist()) == Counter(ids[1:])
    assert split.target_tokens == num_tokens - 1
    real = batch["labels"] != -100
    assert (batch["labels"][real] == batch["input_ids"][real] + 1).all()
    assert (batch["input_ids"][~real] == 0).all()


def test_windows_and_batches_agree(tmp_path: Path) -> None:
    split = packed(tmp_path, [[11, 12, 13, 1], [14, 15, 16, 17, 1]], block_size=4)
    assert len(split) == 2
    assert [split.window(i).tolist() for i in range(2)] == [[11, 12, 13, 1, 14], [14, 15, 16, 17, 1]]
    batch = split.batch([1, 0])
    assert batch["input_ids"].tolist() == [[14, 15, 16, 17], [11, 12, 13, 1]]
    assert batch["labels"].tolist() == [[15, 16, 17, 1], [12, 13, 1, 14]]
    assert {array.dtype for array in batch.values()} == {np.dtype("int64")}
    assert split.document_ends.tolist() == [4, 9]


def test_the_last_window_is_short_and_padded(tmp_path: Path) -> None:
    split = packed(tmp_path, [[11, 12, 13, 14, 15, 1]], block_size=4)
    assert split.window(1).tolist() == [15, 1]
    batch = split.batch([1])
    assert batch["input_ids"].tolist() == [[15, 0, 0, 0]]
    assert batch["labels"].tolist() == [[1, -100, -100, -100]]


def test_context_before_the_first_target_does_not_count(tmp_path: Path) -> None:
    split = packed(tmp_path, [[11, 12, 13, 14, 15, 1]], block_size=4)
    batch = split.batch_at([(1, 4)])
    assert batch["input_ids"].tolist() == [[12, 13, 14, 15]]
    assert batch["labels"].tolist() == [[-100, -100, 15, 1]]


@pytest.mark.parametrize("index", [-1, 2])
def test_there_is_nothing_outside(tmp_path: Path, index: int) -> None:
    split = packed(tmp_path, [[11, 12, 13, 14, 15, 1]], block_size=4)
    with pytest.raises(IndexError):
        split.window(index)
    with pytest.raises(IndexError):
        split.batch([index])


def test_large_ids_survive(tmp_path: Path) -> None:
    split = packed(tmp_path, [[99_999, 70_000, 1]], block_size=4, vocab_size=100_000)
    assert split.stream.dtype == np.uint32
    assert split.window(0).tolist() == [99_999, 70_000, 1]


def test_the_stream_is_not_read_into_memory(tmp_path: Path) -> None:
    assert isinstance(packed(tmp_path, [[5, 1]], block_size=4).stream[:], np.memmap)


@pytest.mark.parametrize("vocab_size", [50, 100_000])
@pytest.mark.parametrize("num_tokens", [1, 2**14, 2**15, 2**15 + 1, 100_000])
def test_checksums_are_those_of_the_pages(tmp_path: Path, vocab_size: int, num_tokens: int) -> None:
    """Written in batches of other lengths than pages."""
    folder = tmp_path / "s"
    ids = np.arange(num_tokens) % 50
    with StreamWriter(folder, id_dtype(vocab_size), "tokenizer") as writer:
        for start in range(0, num_tokens, 7001):
            part = ids[start : start + 7001]
            writer.write(part, np.array([len(part)]))
    content = (folder / "stream.ds").read_bytes()
    pages = [content[start : start + 65536] for start in range(0, len(content), 65536)]
    checksums = np.fromfile(folder / "stream.ds.xxh3", "<u8").tolist()
    assert checksums == [xxhash.xxh3_64_intdigest(page) for page in pages]
    assert (TokenStream(folder / "stream.ds", id_dtype(vocab_size))[:] == ids).all()


def test_a_flipped_bit_is_an_error_where_it_is_read_and_nowhere_else(tmp_path: Path) -> None:
    write_streams(tmp_path, {"test": [list(range(2, 50)) * 4166 + [1] * 33]}, 1000, 50)  # 400,002 bytes
    path = tmp_path / "encode/test/stream.ds"
    whole = path.read_bytes()
    random = Random(11)
    for place in [0, 65535, 65536, len(whole) - 1, *(random.randrange(len(whole)) for _ in range(20))]:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << random.randrange(8)]) + whole[place + 1 :])
        damaged_page, refused = place // 65536, set()
        split = PackedSplit.open(tmp_path / "pack", tmp_path / "encode", "test")
        for index in range(len(split)):
            try:
                split.batch([index])
            except DamageError:
                refused.add(index)
        pages = {index: range(2000 * index // 65536, (2000 * (index + 1) + 1) // 65536 + 1) for index in range(200)}
        assert refused == {index for index, touched in pages.items() if damaged_page in touched}
    with pytest.raises(DamageError, match=rf"the artifact file {path} does not match its checksum in bytes"):
        split.stream[:]


@pytest.mark.parametrize("content", [b"", b"1234567", b"12345678" * 2, None])
def test_checksums_that_do_not_fit_are_damage(tmp_path: Path, content: bytes | None) -> None:
    write_streams(tmp_path, {"test": [[5, 6, 1]]}, 4, 50)
    path = tmp_path / "encode/test/stream.ds.xxh3"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DamageError, match="does not hold 1 checksums"):
        PackedSplit.open(tmp_path / "pack", tmp_path / "encode", "test")


def test_a_missing_split_is_named(tmp_path: Path) -> None:
    write_streams(tmp_path, {"train": [[5, 1]]}, 4, 50)
    with pytest.raises(MissingInputError, match="no test split"):
        PackedSplit.open(tmp_path / "pack", tmp_path / "encode", "test")


def test_streams_of_another_encoding_are_refused(tmp_path: Path) -> None:
    write_streams(tmp_path / "one", {"test": [[5, 6, 1]]}, 4, 50)
    write_streams(tmp_path / "other", {"test": [[5, 7, 8, 1]]}, 4, 50)
    with pytest.raises(AssertionError):
        PackedSplit.open(tmp_path / "one/pack", tmp_path / "other/encode", "test")


def test_a_split_without_targets_is_bad_data() -> None:
    streams = {"train": {"tokens": 9, "digest": "a"}, "validation": {"tokens": 1, "digest": "b"}}
    with pytest.raises(BadDataError, match="validation split has 1 tokens"):
        pack_contiguous({"dtype": "uint16", "splits": streams}, "validation", 4)
