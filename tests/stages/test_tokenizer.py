from __future__ import annotations

from pathlib import Path

import pytest
from tokens.artifacts import PROSE, run_stage, write_split
from transformers import AutoTokenizer

from pipeline.config.tokens import TokenizerConfig
from pipeline.errors import BadDataError
from pipeline.stages.tokenizer import STAGE


def test_it_sees_original_training_documents_only() -> None:
    assert STAGE.inputs == ("curate/train",)
    assert STAGE.libraries == ("tokenizers",)


def test_it_writes_a_tokenizer_and_says_how_well_it_fits(tmp_path: Path) -> None:
    write_split(tmp_path / "curate/train", PROSE)
    summary, said = run_stage(STAGE, TokenizerConfig(vocab_size=300), {"curate": tmp_path / "curate"}, tmp_path / "out")
    assert len(AutoTokenizer.from_pretrained(tmp_path / "out")) == 300 == summary["vocab_size"]
    assert summary["documents_in"] == len(PROSE)
    assert 1 < summary["bytes_per_token"] < 5
    assert summary["fertility"] > 1
    assert 0.1 < summary["vocabulary_used"] < 0.5
    assert said == ""


def test_a_small_corpus_is_said_plainly(tmp_path: Path) -> None:
    write_split(tmp_path / "curate/train", ["ab ab"])
    summary, said = run_stage(STAGE, TokenizerConfig(), {"curate": tmp_path / "curate"}, tmp_path / "out")
    assert (summary["vocab_size"], summary["requested_vocab_size"]) == (259, 8192)
    assert "vocabulary of 259 instead of 8,192 tokens" in said


def test_no_text_is_bad_data(tmp_path: Path) -> None:
    write_split(tmp_path / "curate/train", [])
    with pytest.raises(BadDataError, match="no text to train on"):
        run_stage(STAGE, TokenizerConfig(), {"curate": tmp_path / "curate"}, tmp_path / "out")
