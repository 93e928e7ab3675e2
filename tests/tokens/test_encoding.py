from __future__ import annotations

from itertools import chain
from pathlib import Path

import humanize
import numpy as np
import pytest
from datatrove.pipeline.tokens.tokenizer import TokenizedFile
from datatrove.utils.dataset import DatatroveFileDataset
from hypothesis import given
from hypothesis import strategies as st
from tokens.artifacts import PROSE

from pipeline.atomic import digest_file
from pipeline.tokens.encoding import batches_of_bytes, encode_documents
from pipeline.tokens.token_streams import StreamWriter, id_dtype, in_short
from pipeline.tokens.tokenizer_folder import TokenIds
from pipeline.tokens.tokenizers.byte_level_bpe import ByteLevelBpe

TEXTS = [*PROSE, "", "<|endoftext|> in the text", "x" * 5000]
VOCABULARY = TokenIds(400, pad_token_id=0, eos_token_id=1)
FILES = ("stream.ds", "stream.ds.index", "stream.ds.metadata")


@pytest.fixture(scope="module")
def tokenizer():
    tokenizer = ByteLevelBpe(vocab_size=400).train(PROSE)
    tokenizer.encode_special_tokens = True
    return tokenizer


def test_a_stream_is_documents_each_with_its_end(tmp_path: Path, tokenizer) -> None:
    result = encode_documents(TEXTS, tokenizer, VOCABULARY, tmp_path / "s", 100)
    documents = [[*tokenizer.encode(text).ids, 1] for text in TEXTS]
    stream = np.fromfile(tmp_path / "s/stream.ds", "<u2")
    assert stream.tolist() == list(chain(*documents))
    assert (
        np.fromfile(tmp_path / "s/stream.ds.index", "<u8").tolist() == np.cumsum([len(d) for d in documents]).tolist()
    )
    assert (stream == 1).sum() == len(TEXTS) == result["documents"]
    assert result["tokens"] == len(stream)
    assert result["digest"] == digest_file(tmp_path / "s/stream.ds")


@pytest.mark.parametrize("batch_bytes", [1, 333, 10**9])
def test_batches_leave_no_trace(tmp_path: Path, tokenizer, batch_bytes: int) -> None:
    encode_documents(TEXTS, tokenizer, VOCABULARY, tmp_path / "one", 1000)
    encode_documents(TEXTS, tokenizer, VOCABULARY, tmp_path / "other", batch_bytes)
    for name in FILES:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()


def test_datatrove_writes_the_same_files(tmp_path: Path, tokenizer) -> None:
    encode_documents(TEXTS, tokenizer, VOCABULARY, tmp_path / "ours", 1000)
    theirs = TokenizedFile(
        str(tmp_path / "theirs"), "stream.ds", tokenizer_name_or_path="tokenizer", save_final_metadata=True
    )
    for text in TEXTS:
        theirs.write([*tokenizer.encode(text).ids, 1], None)
    theirs.close()
    for name in FILES:
        assert (tmp_path / "ours" / name).read_bytes() == (tmp_path / "theirs" / name).read_bytes()


@pytest.mark.parametrize("vocab_size", [2**16, 2**16 + 1])
def test_datatrove_reads_a_stream(tmp_path: Path, vocab_size: int) -> None:
    documents = [[vocab_size - 1, 7, 9, 1], [1], [3, vocab_size - 2, 1], [5, 6, 8, 9, 10, 11, 1]]
    with StreamWriter(tmp_path / "s", id_dtype(vocab_size), "tokenizer") as writer:
        for document in documents:
            writer.write(np.array(document), np.array([len(document)]))
    token_size = id_dtype(vocab_size).itemsize
    assert token_size == (2 if vocab_size == 2**16 else 4)
    dataset = DatatroveFileDataset(str(tmp_path / "s/stream.ds"), 4, token_size, return_positions=True)
    assert len(dataset) == 3
    assert list(chain(*(dataset[i]["input_ids"].tolist() for i in range(3)))) == list(chain(*documents))
    assert dataset[0]["positions"].tolist() == [0, 1, 2, 3, 0]


@given(st.integers(min_value=0, max_value=10**17))
def test_numbers_in_short_are_datatroves(number: int) -> None:
    assert in_short(number) == humanize.metric(number, unit="T")


def test_batches_end_with_the_text_that_fills_them() -> None:
    assert list(batches_of_bytes(["aa", "é", "b", "cccccc", "d"], 4)) == [["aa", "é"], ["b", "cccccc"], ["d"]]
