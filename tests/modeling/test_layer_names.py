from __future__ import annotations

import pytest

from pipeline.modeling.layer_names import layer_of, layer_of_matrix, matrix_name


@pytest.mark.parametrize(
    ("name", "prefix", "layer", "matrix"),
    [
        ("model.layers.3.mlp.up_proj.weight", "model", "layers.3", "layers.3.mlp.up_proj"),
        ("model.layers.3.mlp.experts.2.up_proj.weight", "model", "layers.3", "layers.3.mlp.experts.2.up_proj"),
        ("model.layers.3.mlp.experts.gate_up_proj", "model", "layers.3", "layers.3.mlp.experts.gate_up_proj"),
        ("model.embed_tokens.weight", "model", "embed_tokens", "embed_tokens"),
        ("transformer.h.11.ln_1.bias", "transformer", "h.11", "h.11.ln_1.bias"),
        ("model.decoder.layers.0.fc1.weight", "model", "decoder.layers.0", "decoder.layers.0.fc1"),
        ("model.decoder.embed_positions.weight", "model", "decoder.embed_positions", "decoder.embed_positions"),
        (
            "base_model.model.layers.1.q_proj.lora_A.default.weight",
            "model",
            "layers.1",
            "layers.1.q_proj.lora_A.default",
        ),
        ("model.layers.0.weight", "model", "layers.0", "layers.0"),
        ("lm_head.weight", "model", "lm_head", "lm_head"),
        ("lm_head.bias", "model", "lm_head", "lm_head.bias"),
    ],
)
def test_names_of_a_parameter(name, prefix, layer, matrix):
    assert layer_of(name, prefix) == layer
    assert matrix_name(name, prefix) == matrix
    assert layer_of_matrix(matrix) == layer
