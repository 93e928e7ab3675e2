"""Folders written and read block by block are those of whole models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from modeling.checkpoints import SHAPE
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from pipeline.modeling.blockwise import can_read_blockwise, read_blockwise, save_blockwise
from pipeline.modeling.materialize import empty_model
from pipeline.modeling.weights import model_tensors, own_part, read_lazily, save_parts

ROUTED = {**SHAPE, "num_experts_per_tok": 2}
MODELS: dict[str, tuple[dict[str, Any], str | None]] = {
    # A small limit cuts the weights over several files with an index.
    "llama": ({**SHAPE, "tie_word_embeddings": True}, "20KB"),
    "gpt2": ({"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 16, "vocab_size": 64, "eos_token_id": 1}, "20KB"),
    "phi3": (SHAPE, None),
    # transformers joins experts in memory which are apart in files: all of a block, or of its last blocks.
    "mixtral": ({**ROUTED, "num_local_experts": 3}, None),
    "deepseek_v3": (
        {**ROUTED, "n_routed_experts": 4, "first_k_dense_replace": 1, "n_group": 1, "topk_group": 1}
        | {"moe_intermediate_size": 8, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8},
        None,
    ),
    "grok1": ({**ROUTED, "num_local_experts": 3, "num_key_value_heads": 1, "head_dim": 8}, None),
}  # fmt: skip


def config_of(name: str) -> PreTrainedConfig:
    return AutoConfig.for_model(name, **{"pad_token_id": 0, "bos_token_id": None, **MODELS[name][0]})


def save(model: PreTrainedModel, folder: Path, limit: str | None) -> None:
    model.save_pretrained(folder, **({"max_shard_size": limit} if limit else {}))


@pytest.mark.parametrize("name", MODELS)
def test_a_folder_written_from_stored_weights_has_the_bytes_of_a_saved_model(name, tmp_path):
    limit = MODELS[name][1]
    model, empty = AutoModelForCausalLM.from_config(config_of(name)), empty_model(config_of(name))
    save(model, tmp_path / "whole", limit)
    save_parts({name: own_part(tensor) for name, tensor in model_tensors(model).items()}, tmp_path / "weights")
    save_blockwise(empty, read_lazily([tmp_path / "weights"]), lambda: save(empty, tmp_path / "blocks", limit))
    expected = {path.name: path.read_bytes() for path in (tmp_path / "whole").iterdir()}
    assert {path.name: path.read_bytes() for path in (tmp_path / "blocks").iterdir()} == expected
    assert ("model.safetensors.index.json" in expected) == (limit is not None)


@pytest.mark.parametrize("name", MODELS)
def test_weights_read_block_by_block_are_those_of_the_folder(name, tmp_path):
    model, other = (AutoModelForCausalLM.from_config(config_of(name)) for _ in range(2))
    save(model, tmp_path, MODELS[name][1])
    empty = empty_model(config_of(name))
    assert can_read_blockwise(empty, tmp_path)
    read_blockwise(other, empty, tmp_path)
    found, expected = model_tensors(other), model_tensors(model)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    assert all(parameter.device.type == "meta" for parameter in empty.parameters())
    assert getattr(empty, "_weight_conversions", None) is None, "those of one block would hold for all others"


def test_a_folder_of_another_model_is_not_read_block_by_block(tmp_path):
    save(AutoModelForCausalLM.from_config(config_of("llama")), tmp_path, None)
    assert not can_read_blockwise(empty_model(config_of("phi3")), tmp_path)
