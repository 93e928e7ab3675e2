from __future__ import annotations

import pytest
import torch
from training.tiny import GPT2, LLAMA, make_tokenizer

from pipeline.errors import ConfigError
from pipeline.modeling.build import build_config, build_model, load_hf_tokenizer
from pipeline.modeling.heads import head_over_labels
from pipeline.modeling.initial_scales import measure_scales
from pipeline.modeling.inputs import context_length
from pipeline.modeling.model_config import ModelConfig
from pipeline.modeling.parameters import blocks
from pipeline.tasks.classification import Classification


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    make_tokenizer(folder)
    return load_hf_tokenizer(folder)


CLASSES = head_over_labels("single_label_classification", 3)
BERT = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}


def build(tokenizer, architecture="llama", seed=0, **config):
    return build_model(ModelConfig(architecture=architecture, config=config), tokenizer, seed)


def build_classifier(tokenizer, architecture, **config):
    section = ModelConfig(architecture=architecture, config=config, task="classification")
    return build_model(section, tokenizer, 0, CLASSES)


def test_vocabulary_and_special_ids_come_from_the_tokenizer(tokenizer):
    model = build(tokenizer, **LLAMA)
    assert (model.config.vocab_size, model.config.pad_token_id, model.config.eos_token_id) == (64, 0, 1)
    assert model.generation_config.eos_token_id == 1
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())


def test_same_seed_same_weights_and_the_random_state_is_left_alone(tokenizer):
    torch.manual_seed(9)
    expected = torch.rand(1)
    torch.manual_seed(9)
    one, two, other = (build(tokenizer, seed=seed, **LLAMA).lm_head.weight for seed in (0, 0, 1))
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


MIXTRAL = {**LLAMA, "num_local_experts": 4, "num_experts_per_tok": 2}
QWEN3 = {**LLAMA, "head_dim": 8}


@pytest.mark.parametrize(("architecture", "config"), [("gpt2", GPT2), ("mixtral", MIXTRAL), ("qwen3", QWEN3)])
def test_other_architectures_by_name(tokenizer, architecture, config):
    model = build(tokenizer, architecture, **config)
    assert model.config.model_type == architecture


def test_names_of_the_architectures_own_attribute_map_are_known(tokenizer):
    assert build(tokenizer, "gpt2", **{**GPT2, "hidden_size": 32}).config.n_embd == 32


@pytest.mark.parametrize(
    ("architecture", "config", "message"),
    [
        ("llama", {"hiden_size": 3}, r"model\.config\.hiden_size: llama has no such .*; did you mean hidden_size\?"),
        (
            "llama",
            {"num_hidden_layers": 10**7},
            r"num_hidden_layers: 10,000,000 blocks are built one by one; give at most",
        ),
        ("llama", {"n_layer": 3}, r"n_layer: llama has no such setting; did you mean num_hidden_layers\?"),
        ("mixtral", {"top_k": 3}, r"top_k: mixtral has no such setting; did you mean num_experts_per_tok\?"),
        ("gpt2", {"d_model": 64}, r"d_model: gpt2 has no such setting; did you mean (hidden_size|n_embd)\?"),
        ("gpt2", {"rope_theta": 3}, r"model\.config\.rope_theta: gpt2 has no such setting"),
        ("llama", {**LLAMA, "num_attention_heads": 3}, r"model\.config: llama (refuses|cannot be built)"),
        ("llama", {**LLAMA, "hidden_size": "wide"}, r"model\.config: llama refuses these values"),
        (
            "llama",
            {**LLAMA, "num_hidden_layers": -3},
            "llama has num_hidden_layers -3; give at least 1",
        ),
        ("bert", {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}, "is_decoder: true"),
        ("mixtral", {"output_router_logits": True}, r"train\.router_aux_loss_coef"),
    ],
)
def test_wrong_values_are_configuration_errors(tokenizer, architecture, config, message):
    with pytest.raises(ConfigError, match=message) as caught:
        build(tokenizer, architecture, **config)
    assert "\n" not in str(caught.value)


def test_an_architecture_of_several_models_is_refused(tokenizer):
    with pytest.raises(ConfigError, match=r"gemma3 is made up of several models .*gemma3_text"):
        build_config(ModelConfig(architecture="gemma3"), tokenizer)


def test_a_setting_that_only_the_code_reads_is_known(tokenizer):
    config = build_config(ModelConfig(architecture="qwen3_moe", config={"head_dim": 24}), tokenizer)
    assert config.head_dim == 24
    with pytest.raises(ConfigError, match=r"model\.config\.head_dims: qwen3_moe has no such setting"):
        build_config(ModelConfig(architecture="qwen3_moe", config={"head_dims": 24}), tokenizer)
    with pytest.raises(ConfigError, match=r"model\.config\.get_text_config: qwen3_moe has no such setting"):
        build_config(ModelConfig(architecture="qwen3_moe", config={"get_text_config": 24}), tokenizer)
    with pytest.raises(ConfigError, match=r"model\.config\.head_dim: gpt2 has no such setting"):
        build_config(ModelConfig(architecture="gpt2", config={"head_dim": 24}), tokenizer)


def test_the_hint_names_a_text_model_that_exists(tokenizer):
    with pytest.raises(ConfigError, match=r"emu3 is made up of several models .* choose a text model, such as llama$"):
        build_config(ModelConfig(architecture="emu3"), tokenizer)


@pytest.mark.parametrize("architecture", ["cwm", "modernbert-decoder"])
def test_an_architecture_that_must_begin_texts_takes_the_end_of_the_one_before(tokenizer, architecture):
    config = build_config(ModelConfig(architecture=architecture), tokenizer)
    assert config.bos_token_id == config.eos_token_id == tokenizer.eos_token_id
    assert build_config(ModelConfig(), tokenizer).bos_token_id is None


@pytest.mark.parametrize("architecture", ["bart", "xlnet", "roberta", "deberta-v2"])
def test_a_head_over_labels_is_tried_on_sequences_as_training_has_them(tokenizer, architecture):
    config = {"d_model": 16, "n_layer": 1, "n_head": 2, "d_inner": 32} if architecture == "xlnet" else BERT
    if architecture == "bart":
        config = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
                  "decoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32}  # fmt: skip
    model = build_classifier(tokenizer, architecture, **config)
    measured = measure_scales(model, 0, Classification().start_loss)
    assert measured["layers"]
    assert measured["loss"] == pytest.approx(measured["uniform_loss"], abs=1)


@pytest.mark.parametrize(
    ("architecture", "config", "message"),
    [
        ("t5", {"d_model": 16, "num_layers": 1, "num_heads": 2}, "decoder_start_token_id"),
        ("lilt", BERT, r"mat1 and mat2 shapes cannot be multiplied"),
    ],
)
def test_a_head_over_labels_that_cannot_compute_is_a_configuration_error(tokenizer, architecture, config, message):
    with pytest.raises(ConfigError, match=rf"model\.config: {architecture} cannot be built so: .*{message}") as caught:
        build_classifier(tokenizer, architecture, **config)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("architecture", "config", "length"),
    [("llama", LLAMA, LLAMA["max_position_embeddings"]), ("mamba", {"hidden_size": 16, "num_hidden_layers": 1}, None)],
)
def test_the_longest_input(tokenizer, architecture, config, length):
    assert context_length(build(tokenizer, architecture, **config)) == length


def test_positions_that_begin_behind_that_of_padding(tokenizer):
    model = build_classifier(tokenizer, "roberta", **BERT, max_position_embeddings=20).eval()
    ids = torch.full((1, context_length(model)), 5)
    assert ids.shape[1] == 19
    model(input_ids=ids)
    with pytest.raises((IndexError, RuntimeError)):
        model(input_ids=torch.full((1, 20), 5))


def test_blocks_are_what_has_weights(tokenizer):
    """granite_swa numbers its rotary embeddings as well."""
    model = build(tokenizer, "granite_swa", **LLAMA, layer_types=["full_attention", "sliding_attention"])
    assert list(blocks(model)) == ["layers.0", "layers.1"]
