from __future__ import annotations

import pytest
from training.tiny import GPT2, LLAMA, make_tokenizer

from pipeline.modeling.build import build_model, load_hf_tokenizer
from pipeline.modeling.model_config import ModelConfig
from pipeline.modeling.parameters import blocks, parameter_table


def table_of(tmp_path, architecture, config):
    make_tokenizer(tmp_path)
    model = build_model(ModelConfig(architecture=architecture, config=config), load_hf_tokenizer(tmp_path), 0)
    return model, parameter_table(model)


def test_parts_add_up(tmp_path):
    model, table = table_of(tmp_path, "llama", LLAMA)
    parts = {part["name"]: part["parameters"] for part in table["parts"]}
    assert parts == {
        "embed_tokens": 64 * 16,
        "layers.0.attention": 4 * 16 * 16,
        "layers.0.mlp": 3 * 16 * 32,
        "layers.0.norms": 2 * 16,
        "layers.1.attention": 4 * 16 * 16,
        "layers.1.mlp": 3 * 16 * 32,
        "layers.1.norms": 2 * 16,
        "norm": 16,
        "lm_head": 64 * 16,
    }
    assert table["total"] == table["trainable"] == model.num_parameters() == sum(parts.values())
    assert sum(part["share"] for part in table["parts"]) == pytest.approx(1, abs=1e-5)


def test_tied_weights_count_once(tmp_path):
    model, table = table_of(tmp_path, "gpt2", GPT2)
    assert table["total"] == model.num_parameters()
    assert table["parts"][0]["name"] == "wte"
    assert "lm_head" not in [part["name"] for part in table["parts"]]
    assert list(blocks(model)) == ["h.0", "h.1"]
