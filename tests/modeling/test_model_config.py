from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from pydantic import ValidationError
from training.tiny import make_tokenizer
from transformers import AutoConfig, AutoModelForCausalLM

from pipeline.config import Config
from pipeline.modeling.build import build_config, load_hf_tokenizer
from pipeline.modeling.model_config import ModelConfig
from pipeline.modeling.presets import PRESETS
from pipeline.tasks.task_model_config import TaskModelConfig


def test_architectures_are_those_that_transformers_maps_and_our_own():
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    for name in (*MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, "grok1"):
        assert TaskModelConfig(architecture=name).architecture == name


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"architecture": "lama"}, "no causal language model of transformers; did you mean llama"),
        ({"architecture": "vit"}, "no causal language model of transformers"),
        ({"config": {"vocab_size": 100}}, "remove vocab_size: it comes from the tokenizer"),
        ({"config": {"dtype": "bfloat16"}}, "train.mixed_precision"),
    ],
)
def test_refusals(values, message):
    with pytest.raises(ValidationError, match=message):
        TaskModelConfig(**values)


def test_validation_does_not_import_transformers():
    code = "import sys; from pipeline.tasks.task_model_config import TaskModelConfig;"
    code += "TaskModelConfig(architecture='gpt2');"
    code += "sys.exit(bool({'transformers', 'torch'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_preset_is_its_values_and_config_goes_over_them():
    preset = PRESETS["llama-125m"]
    by_name = ModelConfig(preset="llama-125m", config={"num_hidden_layers": 2})
    spelled_out = ModelConfig(architecture="llama", config=preset.config | {"num_hidden_layers": 2})
    assert by_name.identity() == spelled_out.identity()
    assert by_name.identity() != ModelConfig(preset="llama-125m").identity()
    with pytest.raises(ValidationError, match="architecture and preset are both given"):
        ModelConfig(preset="llama-125m", architecture="gpt2")


@pytest.mark.parametrize(
    ("name", "vocab_size", "parameters"), [("gpt2-124m", 50257, 124_439_808), ("grok1-314b", 131072, 315_684_820_992)]
)
def test_published_sizes(name, vocab_size, parameters):
    preset = PRESETS[name]
    config = AutoConfig.for_model(preset.architecture, vocab_size=vocab_size, **preset.config)
    with torch.device("meta"):
        assert AutoModelForCausalLM.from_config(config).num_parameters() == parameters


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_valid_configurations(name, tmp_path):
    make_tokenizer(tmp_path)
    config = build_config(ModelConfig(preset=name), load_hf_tokenizer(tmp_path))
    assert config.vocab_size == 64


def test_a_pretrained_model_needs_its_own_tokenizer():
    sections = {
        "run": {"name": "x"},
        "ingest": {"sources": [{"name": "docs", "type": "python_docs"}]},
        "train": {"max_steps": 1},
        "model": {"pretrained": "folder"},
    }
    with pytest.raises(ValidationError, match=r"set tokenizer to \{type: pretrained, pretrained: folder\}"):
        Config.model_validate(sections)
    Config.model_validate(sections | {"tokenizer": {"type": "pretrained", "pretrained": "folder"}})
