"""What other tools look for in an exported folder."""

from __future__ import annotations

import json

import pytest
import torch
from modeling.checkpoints import SHAPE, make_pretrained
from tokens.artifacts import run_stage
from training.tiny import GPT2, LLAMA, context_for, make_inputs, make_tokenizer, run_train
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig, PreTrainedTokenizerFast

from pipeline.modeling.build import build_model, load_hf_tokenizer, save_model
from pipeline.modeling.model_config import ModelConfig
from pipeline.stages import model as model_stage

UNUSED = {"temperature": 0.6, "top_p": 0.9, "early_stopping": True, "output_scores": True}


def exported(tmp_path, architecture, **config):
    make_tokenizer(tmp_path / "tokenizer")
    section = ModelConfig(architecture=architecture, config=config)
    model = build_model(section, load_hf_tokenizer(tmp_path / "tokenizer"), seed=0)
    save_model(model, tmp_path / "tokenizer", tmp_path / "model")
    return model, json.loads((tmp_path / "model/config.json").read_text())


def test_settings_for_generation_that_do_not_apply_are_left_out_and_said(tmp_path):
    """Many published folders have a temperature without do_sample, which transformers refuses to save."""
    make_pretrained(tmp_path / "base")
    settings = {"max_new_tokens": 7, "repetition_penalty": 1.2, "eos_token_id": [0, 5], **UNUSED}
    (tmp_path / "base/generation_config.json").write_text(json.dumps(settings))
    section = ModelConfig(pretrained=str(tmp_path / "base"))
    summary, _ = run_stage(model_stage.STAGE, section, {"tokenizer": tmp_path / "base"}, tmp_path / "out")
    (told,) = summary["warnings"]
    assert all(f"{name}: {value}" in told for name, value in UNUSED.items())
    saved = GenerationConfig.from_pretrained(tmp_path / "out/model")
    saved.validate(strict=True)
    assert (saved.max_new_tokens, saved.repetition_penalty, saved.eos_token_id) == (7, 1.2, [0, 5])


def test_settings_for_generation_that_apply_stay(tmp_path):
    make_pretrained(tmp_path / "base")
    settings = {"do_sample": True, "temperature": 0.6, "top_k": 7}
    (tmp_path / "base/generation_config.json").write_text(json.dumps(settings))
    section = ModelConfig(pretrained=str(tmp_path / "base"))
    summary, _ = run_stage(model_stage.STAGE, section, {"tokenizer": tmp_path / "base"}, tmp_path / "out")
    assert summary["warnings"] == []
    saved = json.loads((tmp_path / "out/model/generation_config.json").read_text())
    assert settings.items() <= saved.items()


@pytest.mark.parametrize(
    ("architecture", "rope", "expected"),
    [
        ("llama", {"rope_type": "default", "rope_theta": 5e5}, {"rope_theta": 5e5}),
        (
            "llama",
            {"rope_type": "linear", "factor": 2.0, "rope_theta": 2e4},
            {"rope_theta": 2e4, "rope_scaling": {"rope_type": "linear", "factor": 2.0}},
        ),
        (
            "phi",
            {"rope_type": "default", "rope_theta": 2e4, "partial_rotary_factor": 0.25},
            {"rope_theta": 2e4, "partial_rotary_factor": 0.25},
        ),
        (
            "gpt_neox",
            {"rope_type": "default", "rope_theta": 2e4, "partial_rotary_factor": 0.5},
            {"rotary_emb_base": 2e4, "rotary_pct": 0.5},
        ),
        (
            "gemma3_text",
            {
                "full_attention": {"rope_type": "default", "rope_theta": 3e5},
                "sliding_attention": {"rope_type": "default", "rope_theta": 2e4},
            },
            {"rope_theta": 3e5, "rope_local_base_freq": 2e4},
        ),
    ],
)
def test_rotary_settings_have_their_earlier_names_too(tmp_path, architecture, rope, expected):
    shape = {**SHAPE, "head_dim": 8} if architecture == "gemma3_text" else SHAPE
    if architecture == "gpt_neox":
        shape = {name: value for name, value in SHAPE.items() if name != "num_key_value_heads"}
    model, config = exported(tmp_path, architecture, **shape, rope_parameters=rope)
    assert {name: config.get(name) for name in expected} == expected
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert again.config.rope_parameters == model.config.rope_parameters
    ids = torch.arange(2, 40)[None]
    with torch.no_grad():
        assert torch.equal(again(ids).logits, model.eval()(ids).logits)


def test_gpt2_says_its_context_in_both_words(tmp_path):
    assert exported(tmp_path, "gpt2", **GPT2)[1]["n_ctx"] == GPT2["n_positions"]


def test_the_tokenizer_is_of_a_class_that_all_versions_have_and_names_no_place(tmp_path):
    make_tokenizer(tmp_path / "first")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "first", local_files_only=True)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<more>"]})
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    save_model(exported(tmp_path / "other", "llama", **LLAMA)[0], tmp_path / "tokenizer", tmp_path / "model")
    saved = json.loads((tmp_path / "model/tokenizer_config.json").read_text())
    assert (saved["tokenizer_class"], saved["padding_side"]) == ("PreTrainedTokenizerFast", "left")
    assert saved["model_input_names"] == ["input_ids", "attention_mask"], "transformers 4 adds token types"
    assert saved["additional_special_tokens"] == ["<more>"], "a list under its new name breaks transformers 4"
    assert not {"is_local", "local_files_only", "name_or_path", "extra_special_tokens"} & saved.keys()
    again = AutoTokenizer.from_pretrained(tmp_path / "model")
    assert isinstance(again, PreTrainedTokenizerFast)
    assert again.extra_special_tokens == ["<more>"]


@pytest.mark.parametrize("auto_map", ["author/other--modeling_x.Model", "modeling_x.Model"])
def test_code_that_the_folder_does_not_bring_is_not_named(tmp_path, auto_map):
    make_pretrained(tmp_path / "base")
    for name, entry in (("config", auto_map), ("tokenizer_config", [None, auto_map])):
        path = tmp_path / "base" / f"{name}.json"
        values = json.loads(path.read_text())
        key = "AutoTokenizer" if "tokenizer" in name else "AutoModelForCausalLM"
        path.write_text(json.dumps({**values, "auto_map": {key: entry}}))
    section = ModelConfig(pretrained=str(tmp_path / "base"))
    model_stage.STAGE.run(context_for(section, {"tokenizer": tmp_path / "base"}, tmp_path / "out"))
    for name in ("config", "tokenizer_config"):
        assert "auto_map" not in json.loads((tmp_path / "out/model" / f"{name}.json").read_text())
    assert AutoConfig.from_pretrained(tmp_path / "out/model").model_type == "llama"


def test_the_longest_input_is_what_was_trained_or_what_a_base_has(tmp_path):
    inputs = make_inputs(tmp_path, config={**LLAMA, "max_position_embeddings": 64})
    run_train(inputs, tmp_path)
    assert AutoTokenizer.from_pretrained(tmp_path / "output/model").model_max_length == 16
    make_pretrained(tmp_path / "base")
    section = ModelConfig(pretrained=str(tmp_path / "base"))
    model_stage.STAGE.run(context_for(section, {"tokenizer": tmp_path / "base"}, tmp_path / "tuned"))
    assert AutoTokenizer.from_pretrained(tmp_path / "tuned/model").model_max_length == 64
