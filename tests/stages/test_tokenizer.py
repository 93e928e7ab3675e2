from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from modeling.checkpoints import make_pretrained
from pydantic import ValidationError
from tokenizers import Tokenizer
from tokens.artifacts import PROSE, run_stage, write_split
from transformers import AutoTokenizer

from pipeline.errors import BadDataError, ConfigError
from pipeline.stages.tokenizer import STAGE
from pipeline.tokens.tokenizer_folder import TokenIds, load_tokenizer, read_vocabulary
from pipeline.tokens.tokenizers.byte_level_bpe import ByteLevelBpe
from pipeline.tokens.tokenizers.characters import Characters
from pipeline.tokens.tokenizers.pretrained import Pretrained


def test_it_sees_original_training_documents_only() -> None:
    assert STAGE.inputs == ("curate/train",)
    assert STAGE.libraries == ("tokenizers", "transformers")


def test_it_writes_a_tokenizer_and_says_how_well_it_fits(tmp_path: Path) -> None:
    write_split(tmp_path / "curate/train", PROSE)
    summary, said = run_stage(STAGE, ByteLevelBpe(vocab_size=300), {"curate": tmp_path / "curate"}, tmp_path / "out")
    assert len(AutoTokenizer.from_pretrained(tmp_path / "out")) == 300 == summary["vocab_size"]
    assert summary["documents_in"] == len(PROSE)
    assert 1 < summary["bytes_per_token"] < 5
    assert summary["fertility"] > 1
    assert 0.1 < summary["vocabulary_used"] < 0.5
    assert said == ""


def test_a_small_corpus_is_said_plainly(tmp_path: Path) -> None:
    write_split(tmp_path / "curate/train", ["ab ab"])
    summary, said = run_stage(STAGE, ByteLevelBpe(), {"curate": tmp_path / "curate"}, tmp_path / "out")
    assert (summary["vocab_size"], summary["requested_vocab_size"]) == (259, 8192)
    assert "vocabulary of 259 instead of 8,192 tokens" in said


def test_characters_are_counted_without_a_word(tmp_path: Path) -> None:
    write_split(tmp_path / "curate/train", ["abba", "cc"])
    section = Characters()
    summary, said = run_stage(STAGE, section, {"curate": tmp_path / "curate"}, tmp_path / "out")
    assert (summary["vocab_size"], summary["bytes_per_token"]) == (261, 1)
    assert said == ""


def test_no_text_is_bad_data(tmp_path: Path) -> None:
    write_split(tmp_path / "curate/train", [])
    with pytest.raises(BadDataError, match="no text to train on"):
        run_stage(STAGE, ByteLevelBpe(), {"curate": tmp_path / "curate"}, tmp_path / "out")


def take(tmp_path: Path, special: dict[str, str] | None = None) -> tuple[dict[str, Any], Any]:
    make_pretrained(tmp_path / "model", special)
    write_split(tmp_path / "curate/train", PROSE)
    section = Pretrained(pretrained=str(tmp_path / "model"))
    summary, _ = run_stage(STAGE, section, {"curate": tmp_path / "curate"}, tmp_path / "out")
    return summary, AutoTokenizer.from_pretrained(tmp_path / "out")


@pytest.mark.parametrize(
    ("special", "pad", "end"),
    [
        ({"eos_token": "<end>"}, "<end>", "<end>"),
        ({"eos_token": "<end>", "pad_token": "<end>"}, "<end>", "<end>"),
        ({"eos_token": "<end>", "unk_token": "<pad>"}, "<pad>", "<end>"),
        ({"eos_token": "<end>", "pad_token": "<fill>"}, "<fill>", "<end>"),
        ({"sep_token": "<sep>", "pad_token": "<fill>"}, "<fill>", "<sep>"),
        ({"unk_token": "<unk>"}, "<|endoftext|>", "<|endoftext|>"),
    ],
)
def test_a_pretrained_tokenizer_gets_what_it_lacks(tmp_path: Path, special: dict[str, str], pad: str, end: str) -> None:
    summary, tokenizer = take(tmp_path, special)
    assert (tokenizer.pad_token, tokenizer.eos_token) == (pad, end)
    vocabulary = read_vocabulary(tmp_path / "out", load_tokenizer(tmp_path / "out"))
    assert vocabulary == TokenIds(len(tokenizer), tokenizer.pad_token_id, tokenizer.eos_token_id)
    assert vocabulary.size == summary["vocab_size"] == 300 + len({pad, end} - set(special.values()))
    original = AutoTokenizer.from_pretrained(tmp_path / "model")
    assert tokenizer(PROSE[0]).input_ids == original(PROSE[0]).input_ids
    assert 1 < summary["bytes_per_token"] < 5


def test_the_files_of_a_pretrained_tokenizer_are_its_identity(tmp_path: Path) -> None:
    make_pretrained(tmp_path)
    files = STAGE.source_files(Pretrained(pretrained=str(tmp_path)))
    assert {Path(name).name for name in files} == {"config.json", "tokenizer.json", "tokenizer_config.json"}
    assert STAGE.source_files(ByteLevelBpe()) == {}


def test_nothing_is_cut_off_where_the_tokenizer_says_so(tmp_path: Path) -> None:
    make_pretrained(tmp_path)
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=64)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert 10 < len(load_tokenizer(tmp_path).encode(PROSE[0]).ids) < 64


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "type pretrained needs `pretrained`"),
        ({"pretrained": "x/y", "revision": "v1"}, "'v1' is no commit"),
    ],
)
def test_contradictions_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Pretrained(**values)


def test_a_folder_without_a_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    write_split(tmp_path / "curate/train", PROSE)
    section = Pretrained(pretrained=str(tmp_path / "model"))
    with pytest.raises(ConfigError, match=r"tokenizer\.pretrained: .* gives no tokenizer"):
        run_stage(STAGE, section, {"curate": tmp_path / "curate"}, tmp_path / "out")
