from __future__ import annotations

import json

import pytest
from tokens.artifacts import run_stage
from training.tiny import LLAMA, context_for, make_tokenizer

from pipeline.atomic import digest_file, list_files
from pipeline.errors import ConfigError
from pipeline.modeling.build import load_model
from pipeline.modeling.model_config import ModelConfig
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


def test_scales_at_the_start_are_judged_and_a_bad_one_is_said(tmp_path):
    make_tokenizer(tmp_path / "tokenizer")
    inputs = {"tokenizer": tmp_path / "tokenizer"}
    summary = model.STAGE.run(context_for(ModelConfig(config=LLAMA), inputs, tmp_path / "good"))
    assert {verdict["verdict"] for verdict in summary["health"]} == {"healthy"}
    assert list(summary["start"]["layers"]) == ["layers.0", "layers.1"]
    section = ModelConfig(config=LLAMA, initialization={"type": "normal", "std": 1e-25})
    summary, said = run_stage(model.STAGE, section, inputs, tmp_path / "bad")
    assert "warning: critical: vanishing gradients at the start: before training, layers.0" in said


def test_a_large_model_is_a_recipe_from_which_training_makes_the_same_weights(tmp_path):
    make_tokenizer(tmp_path / "tokenizer")
    inputs = {"tokenizer": tmp_path / "tokenizer"}
    section = ModelConfig(config=LLAMA)
    whole = model.STAGE.run(context_for(section, inputs, tmp_path / "whole"))
    limited = section.model_copy(update={"materialize_limit": 1000})
    summary = model.STAGE.run(context_for(limited, inputs, tmp_path / "recipe"))
    assert summary["total"] == whole["total"]
    assert [verdict["verdict"] for verdict in summary["health"]] == ["unknown"]
    assert sum(path.stat().st_size for path in (tmp_path / "recipe").rglob("*") if path.is_file()) < 20_000
    one, two = (load_model(tmp_path / name / "model").state_dict() for name in ("whole", "recipe"))
    assert one.keys() == two.keys()
    assert all(one[name].equal(two[name]) for name in one)
