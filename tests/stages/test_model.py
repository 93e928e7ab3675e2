from __future__ import annotations

import json

import pytest
from training.tiny import LLAMA, context_for, make_tokenizer

from pipeline.atomic import digest_file, list_files
from pipeline.config.model import ModelConfig
from pipeline.errors import ConfigError
from pipeline.stages import model


def test_writes_an_ordinary_folder_and_the_table_the_same_each_time(tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    make_tokenizer(tmp_path / "tokenizer")
    section = ModelConfig(config=LLAMA)
    for name in ("one", "two"):
        summary = model.STAGE.run(context_for(section, {"tokenizer": tmp_path / "tokenizer"}, tmp_path / name))
    files = list_files(tmp_path / "one")
    assert files == list_files(tmp_path / "two")
    assert all(digest_file(tmp_path / "one" / file) == digest_file(tmp_path / "two" / file) for file in files)
    table = json.loads((tmp_path / "one" / "parameters.json").read_text())
    assert (summary["total"], summary["vocab_size"]) == (table["total"], 64)
    folder = tmp_path / "one" / "model"
    assert AutoModelForCausalLM.from_pretrained(folder).num_parameters() == table["total"]
    assert AutoTokenizer.from_pretrained(folder).eos_token_id == 1
    assert (folder / "tokenizer.json").read_bytes() == (tmp_path / "tokenizer" / "tokenizer.json").read_bytes()


def test_an_architecture_that_replaces_the_tokenizer_is_refused(tmp_path):
    make_tokenizer(tmp_path / "tokenizer")
    section = ModelConfig(architecture="qwen2", config=LLAMA)
    with pytest.raises(ConfigError, match="qwen2's own tokenizer rules in place of the trained ones"):
        model.STAGE.run(context_for(section, {"tokenizer": tmp_path / "tokenizer"}, tmp_path / "out"))
