from __future__ import annotations

import json

import pytest
import torch
from modeling.checkpoints import SHAPE, make_pretrained
from pydantic import ValidationError
from transformers import AutoTokenizer

from pipeline.errors import ConfigError, MissingInputError
from pipeline.modeling.build import build_model, load_hf_tokenizer, load_model, save_model
from pipeline.modeling.heads import head_over_labels
from pipeline.modeling.model_config import ModelConfig
from pipeline.modeling.pretrained_model import resize_vocabulary
from pipeline.pretrained.origin import has_code
from pipeline.stages.model import STAGE
from pipeline.tasks import task_named
from pipeline.tokens.tokenizers.pretrained import load_pretrained_tokenizer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def tokenizer_of(folder):
    return load_pretrained_tokenizer(folder, False, "tokenizer")


def test_a_folder_gives_its_model_with_a_mean_row_for_each_new_token(tmp_path):
    original = make_pretrained(tmp_path, {"bos_token": "<begin>"})
    model = build_model(ModelConfig(pretrained=str(tmp_path)), tokenizer_of(tmp_path), 0)
    old = original.config.vocab_size
    for embedding, before in (
        (model.get_input_embeddings(), original.get_input_embeddings()),
        (model.get_output_embeddings(), original.get_output_embeddings()),
    ):
        assert torch.equal(embedding.weight[:old], before.weight)
        torch.testing.assert_close(embedding.weight[old:], before.weight.mean(dim=0, keepdim=True))
    assert (model.config.vocab_size, model.config.pad_token_id, model.config.eos_token_id) == (old + 1, None, old)
    assert torch.equal(model.model.layers[1].mlp.up_proj.weight, original.model.layers[1].mlp.up_proj.weight)


@pytest.mark.parametrize("task", ["causal_lm", "classification"])
@pytest.mark.parametrize("special", [{"eos_token": "<end>"}, {"eos_token": "<end>", "pad_token": "<end>"}])
def test_padding_takes_no_row_of_its_own(tmp_path, special, task):
    original = make_pretrained(tmp_path, special)
    tokenizer = tokenizer_of(tmp_path)
    assert (tokenizer.pad_token, tokenizer.eos_token) == ("<end>", "<end>")
    head = task_named(task).head()
    model = build_model(ModelConfig(pretrained=str(tmp_path)), tokenizer, 0, head)
    assert torch.equal(model.get_input_embeddings().weight, original.get_input_embeddings().weight)
    # A language model never sees padding, and its row would learn nothing.
    assert model.config.pad_token_id == (None if task == "causal_lm" else 0)


def test_a_token_that_the_vocabulary_has_for_padding_is_taken(tmp_path):
    make_pretrained(tmp_path, {"eos_token": "<end>", "unk_token": "[PAD]"})
    assert tokenizer_of(tmp_path).pad_token == "[PAD]"


def test_no_bar_of_transformers_is_drawn(tmp_path, capfd):
    make_pretrained(tmp_path)
    capfd.readouterr()
    build_model(ModelConfig(pretrained=str(tmp_path)), tokenizer_of(tmp_path), 0)
    assert "Loading weights" not in capfd.readouterr().err


def test_rows_that_the_vocabulary_does_not_need_stay(tmp_path):
    original = make_pretrained(tmp_path, vocab_size=320, tie_word_embeddings=True)
    model = build_model(ModelConfig(pretrained=str(tmp_path)), tokenizer_of(tmp_path), 0)
    assert torch.equal(model.lm_head.weight, original.lm_head.weight)
    resize_vocabulary(model, 322)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    torch.testing.assert_close(model.lm_head.weight[321], original.lm_head.weight.mean(dim=0))


def test_values_of_config_override_those_of_the_folder(tmp_path):
    make_pretrained(tmp_path)
    tokenizer = tokenizer_of(tmp_path)
    section = ModelConfig(pretrained=str(tmp_path), config={"attention_dropout": 0.25})
    assert build_model(section, tokenizer, 0).config.attention_dropout == 0.25
    with pytest.raises(ConfigError, match=r"attention_dropot: llama has no such setting; did you mean attention_drop"):
        build_model(section.model_copy(update={"config": {"attention_dropot": 0}}), tokenizer, 0)
    with pytest.raises(ConfigError, match=r"model\.pretrained: .* cannot be loaded"):
        build_model(section.model_copy(update={"config": {"hidden_size": 32}}), tokenizer, 0)


def test_the_precision_of_the_checkpoint_is_kept(tmp_path):
    make_pretrained(tmp_path).bfloat16().save_pretrained(tmp_path)
    model = build_model(ModelConfig(pretrained=str(tmp_path)), tokenizer_of(tmp_path), 0)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}


def test_only_safetensors_are_read(tmp_path):
    make_pretrained(tmp_path)
    section = ModelConfig(pretrained=str(tmp_path))
    assert {path.rpartition("/")[2] for path in STAGE.source_files(section)} == {
        "config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
    }  # fmt: skip
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(ConfigError, match=r"has no \*\.safetensors, .* save the model again"):
        STAGE.source_files(section)
    with pytest.raises(ConfigError, match=r"has no \*\.safetensors"):
        build_model(section, tokenizer_of(tmp_path), 0)
    (tmp_path / "config.json").unlink()
    with pytest.raises(ConfigError, match=r"has no config\.json"):
        STAGE.source_files(section)


def test_a_missing_folder_and_an_unreachable_hub(tmp_path, monkeypatch):
    with pytest.raises(MissingInputError, match=r"there is no folder 'gpt2' .* for a repository of the hub give its"):
        STAGE.source_files(ModelConfig(pretrained="gpt2"))
    with pytest.raises(MissingInputError, match=r"there is no folder './gpt2' in [^;]*$"):
        STAGE.source_files(ModelConfig(pretrained="./gpt2"))
    asked = []
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", lambda *_, **named: asked.append(named) or 1 / 0)
    section = ModelConfig(pretrained="some-people/a-model", revision=COMMIT)
    assert STAGE.source_files(section) == {}
    with pytest.raises(MissingInputError, match=r"the hub does not give some-people/a-model at 0123.*: .*; check"):
        build_model(section, None, 0)
    assert len(asked) == 1  # and nothing is asked again and again


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"pretrained": "a/b", "revision": "main"}, "'main' is no commit of 40 hexadecimal digits"),
        ({"pretrained": "./a", "revision": COMMIT}, "only for a hub repository"),
        ({"revision": COMMIT}, "only for a hub repository"),
        ({"trust_remote_code": True}, "only for something pretrained"),
        ({"pretrained": "a", "architecture": "llama"}, "architecture and pretrained are both given"),
        ({"pretrained": "a", "preset": "gpt2-124m"}, "preset and pretrained are both given"),
    ],
)
def test_contradictions_are_refused(values, message):
    with pytest.raises(ValidationError, match=message):
        ModelConfig(**values)


def test_another_models_tokenizer_is_refused(tmp_path):
    make_pretrained(tmp_path / "model")
    make_pretrained(tmp_path / "other", {"eos_token": "<end>", "pad_token": "<pad>"})
    section = ModelConfig(pretrained=str(tmp_path / "model"))
    with pytest.raises(ConfigError, match=r"tokenizer: it is not that of model\.pretrained: .* name the same folder"):
        build_model(section, tokenizer_of(tmp_path / "other"), 0)


def test_a_quantized_or_headless_checkpoint_is_refused(tmp_path):
    model = make_pretrained(tmp_path)
    tokenizer, section = tokenizer_of(tmp_path), ModelConfig(pretrained=str(tmp_path))
    model.model.save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match=r"lacks weights of LlamaForCausalLM, such as lm_head\.weight"):
        build_model(section, tokenizer, 0)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": "fp8"}}))
    with pytest.raises(ConfigError, match="is quantized already"):
        build_model(section, tokenizer, 0)


def test_a_head_over_labels_starts_anew_the_same_for_the_same_seed(tmp_path):
    make_pretrained(tmp_path)
    section, tokenizer = ModelConfig(pretrained=str(tmp_path)), tokenizer_of(tmp_path)
    head = head_over_labels("single_label_classification", 3)
    one, two, other = (build_model(section, tokenizer, seed, head) for seed in (0, 0, 1))
    assert one.score.weight.shape == (3, SHAPE["hidden_size"])
    assert torch.equal(one.score.weight, two.score.weight)
    assert not torch.equal(one.score.weight, other.score.weight)
    assert (one.config.num_labels, one.config.problem_type) == (3, "single_label_classification")
    fresh = build_model(ModelConfig(config=SHAPE), tokenizer, 0, head_over_labels("regression", 1))
    assert (fresh.config.num_labels, fresh.config.problem_type) == (1, "regression")


CODE = """
from transformers import LlamaConfig, LlamaForCausalLM

class TwiceConfig(LlamaConfig):
    model_type = "twice"

class TwiceForCausalLM(LlamaForCausalLM):
    config_class = TwiceConfig

    def forward(self, *args, **kwargs):
        output = super().forward(*args, **kwargs)
        output.logits = 2 * output.logits
        return output
"""


def test_code_of_a_folder_runs_only_when_trusted_and_travels_with_the_model(tmp_path, monkeypatch):
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    folder = tmp_path / "twice"
    plain = make_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    classes = {"AutoConfig": "code.TwiceConfig", "AutoModelForCausalLM": "code.TwiceForCausalLM"}
    classes = {name: value.replace("code.", "twice_code.") for name, value in classes.items()}
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "twice", "auto_map": classes}))
    (folder / "twice_code.py").write_text(CODE)
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
    tokenizer.add_special_tokens({"pad_token": "<pad>"})
    with pytest.raises(ConfigError, match=r"has no usable config\.json"):
        build_model(ModelConfig(pretrained=str(folder)), tokenizer, 0)
    section = ModelConfig(pretrained=str(folder), trust_remote_code=True)
    assert any(path.endswith("twice_code.py") for path in STAGE.source_files(section))
    model = build_model(section, tokenizer, 0)
    ids = torch.tensor([[3, 4, 5]])
    torch.testing.assert_close(model(ids).logits[..., :-1], 2 * plain(ids).logits)
    save_model(model, folder, tmp_path / "saved")
    assert has_code(tmp_path / "saved")
    again = load_model(tmp_path / "saved")
    assert torch.equal(again(ids).logits, model(ids).logits)
    assert load_hf_tokenizer(tmp_path / "saved").eos_token == "<end>"
    elsewhere = {"AutoConfig": "people/other--twice_code.TwiceConfig"}
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "twice", "auto_map": elsewhere}))
    with pytest.raises(ConfigError, match=r"takes code from .people/other--twice_code"):
        build_model(section, tokenizer, 0)
