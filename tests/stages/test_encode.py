from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from tokens.artifacts import PROSE, run_stage, write_split
from transformers import AutoTokenizer

from pipeline.atomic import digest_file, list_files
from pipeline.corpus.document_shards import read_documents, write_shards
from pipeline.stages.encode import STAGE
from pipeline.stages.tokenizer import STAGE as TOKENIZER
from pipeline.tokens.encoding import EncodeConfig
from pipeline.tokens.tokenizers.byte_level_bpe import ByteLevelBpe


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, Path]:
    curate = tmp_path / "curate"
    write_split(curate / "train", PROSE[:20])
    write_split(curate / "validation", PROSE[20:25])
    write_split(curate / "test", [*PROSE[25:28], "<|endoftext|>"])
    write_split(tmp_path / "augment/train", [*PROSE[:20], "An altered copy."])
    run_stage(TOKENIZER, ByteLevelBpe(vocab_size=350), {"curate": curate}, tmp_path / "tokenizer")
    return {name: tmp_path / name for name in ("curate", "augment", "tokenizer")}


def test_training_text_is_augmented_and_the_rest_is_not() -> None:
    assert STAGE.inputs == ("augment/train", "curate/validation", "curate/test", "tokenizer")


def test_the_streams_hold_the_documents_of_each_split(tmp_path: Path, inputs: dict[str, Path]) -> None:
    summary, _ = run_stage(STAGE, EncodeConfig(), inputs, tmp_path / "out")
    encoded = json.loads((tmp_path / "out/encode.json").read_text())
    assert (encoded["eos_token_id"], encoded["pad_token_id"], encoded["dtype"]) == (1, 0, "uint16")
    assert {name: split["documents"] for name, split in encoded["splits"].items()} == {
        "train": 21,
        "validation": 5,
        "test": 4,
    }
    train = encoded["splits"]["train"]
    whole = {"name": "prose", "documents": 21, "first_document": 0, "first_token": 0, "tokens": train["tokens"]}
    assert train["sources"] == [whole]
    tokenizer = AutoTokenizer.from_pretrained(inputs["tokenizer"])
    assert encoded["vocab_size"] == len(tokenizer) == summary["vocab_size"]
    stream = np.fromfile(tmp_path / "out/train/stream.ds", "<u2")
    assert tokenizer.decode(stream) == "".join(text + "<|endoftext|>" for text in [*PROSE[:20], "An altered copy."])
    assert summary["tokens_out"] == sum(split["tokens"] for split in encoded["splits"].values())
    for name, split in encoded["splits"].items():
        assert split["digest"] == digest_file(tmp_path / "out" / name / "stream.ds")


def test_workers_and_batches_leave_no_trace(tmp_path: Path, inputs: dict[str, Path]) -> None:
    run_stage(STAGE, EncodeConfig(), inputs, tmp_path / "one", num_workers=1)
    run_stage(STAGE, EncodeConfig(batch_bytes=50), inputs, tmp_path / "other", num_workers=4)
    assert EncodeConfig().identity() == EncodeConfig(batch_bytes=50).identity()
    names = list_files(tmp_path / "one")
    assert len(names) == 13
    assert names == list_files(tmp_path / "other")
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()


def test_labels_stand_beside_the_stream_in_its_order(tmp_path: Path, inputs: dict[str, Path]) -> None:
    labels = ["0.1", None, "1e-07", *["x"] * 18]
    folder = tmp_path / "augment/train"
    documents = [replace(d, label=label) for d, label in zip(read_documents(folder), labels, strict=True)]
    shutil.rmtree(folder)
    write_shards(folder, documents)
    summary, _ = run_stage(STAGE, EncodeConfig(), inputs, tmp_path / "out")
    assert pq.read_table(tmp_path / "out/train/labels.parquet").column("label").to_pylist() == labels
    assert summary["splits"]["train"]["labels"] == 20
    assert not (tmp_path / "out/test/labels.parquet").exists()
    assert json.loads((tmp_path / "out/encode.json").read_text())["splits"]["test"]["labels"] == 0
