from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokens.artifacts import packed, write_streams

from pipeline.errors import BadDataError, MissingInputError
from pipeline.tokens.packing import pack_contiguous
from pipeline.tokens.reader import PackedSplit


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
    assert isinstance(packed(tmp_path, [[5, 1]], block_size=4).stream, np.memmap)


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
