"""Adapters: the base stays as it is, the adapter is saved alone, the merged model computes the same."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from modeling.checkpoints import make_pretrained
from modeling.grok1.tiny import initialized
from pydantic import ValidationError
from tokens.artifacts import run_stage
from training.tiny import make_streams, run_train
from transformers import AutoModelForCausalLM, AutoTokenizer

from pipeline.errors import ConfigError
from pipeline.modeling import open_and_export
from pipeline.modeling.adapters import peft_config, virtual_tokens, wrapper_of
from pipeline.modeling.build import load_hf_tokenizer, load_model
from pipeline.modeling.export_check import load_as_told
from pipeline.modeling.model_config import UNSUPPORTED_ADAPTERS, AdapterConfig, ModelConfig
from pipeline.modeling.parameters import blocks
from pipeline.stages.model import STAGE
from pipeline.tasks.task_model_config import TaskModelConfig

BOTH = {"eos_token": "<end>", "pad_token": "<pad>"}
PROMPT = {"num_virtual_tokens": 3}
METHODS: dict[str, dict[str, Any]] = {
    "lora": {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "down_proj"]},
    "dora": {"r": 2},
    "rslora": {"r": 2},
    "ia3": {},
    "vera": {"r": 4},
    "prompt_tuning": PROMPT,
    "p_tuning": PROMPT,
    "prefix_tuning": PROMPT,
}
MERGED = ("lora", "dora", "rslora", "ia3", "vera")
IDS = torch.arange(2, 14).reshape(2, 6)


def make_artifact(folder, tie_word_embeddings: bool = False, **section) -> dict[str, Any]:
    make_pretrained(folder / "pretrained", BOTH, tie_word_embeddings=tie_word_embeddings)
    config = ModelConfig(pretrained=str(folder / "pretrained"), **section)
    summary, _ = run_stage(STAGE, config, {"tokenizer": folder / "pretrained"}, folder / "artifact")
    return summary


def logits(model) -> torch.Tensor:
    model.eval()
    with torch.no_grad():
        return model(input_ids=IDS, use_cache=False).logits


def train_a_little(model) -> None:
    model.train()
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.05)
    for _ in range(3):
        output = model(input_ids=IDS, use_cache=False)
        torch.nn.functional.cross_entropy(output.logits.flatten(0, 1), IDS.roll(-1, 1).flatten()).backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize("method", METHODS)
def test_the_base_stays_and_the_export_computes_the_same(tmp_path, method):
    from peft import PeftModel

    summary = make_artifact(tmp_path, adapter={"type": method, **METHODS[method]})
    assert 0 < summary["trainable"] < summary["total"] / 2
    model = open_and_export.open_for_training(tmp_path / "artifact", seed=3)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == summary["trainable"]
    initial = load_model(tmp_path / "artifact/model")
    before = initial.state_dict()
    train_a_little(model)
    trained = logits(model)
    assert trained.shape == (2, 6, initial.config.vocab_size)
    assert not torch.allclose(trained, logits(initial), atol=1e-3)
    frozen = {name: p for name, p in wrapper_of(model).named_parameters() if not p.requires_grad}
    prefix = "base_model.model." if method in MERGED else "base_model."
    names = {name: name.removeprefix(prefix).replace("base_layer.", "") for name in frozen}
    compared = [name for name, plain in names.items() if plain in before]
    assert len(compared) >= len(before) - 1
    assert all(torch.equal(frozen[name], before[names[name]]) for name in compared), "the base changed"

    open_and_export.export_model(model, tmp_path / "artifact", tmp_path / "out")
    torch.testing.assert_close(logits(load_model(tmp_path / "out/model")), trained, atol=1e-5, rtol=0)
    weights = sum(path.stat().st_size for path in (tmp_path / "out/adapter").glob("*.safetensors"))
    assert weights < (tmp_path / "artifact/model/model.safetensors").stat().st_size
    with_peft = PeftModel.from_pretrained(initial, tmp_path / "out/adapter")
    torch.testing.assert_close(logits(with_peft)[:, -6:], trained, atol=1e-5, rtol=0)
    named = json.loads((tmp_path / "out/adapter/adapter_config.json").read_text())["base_model_name_or_path"]
    assert named == "pretrained", "a name, not a path of this machine"
    assert (tmp_path / "out/model/adapter").is_dir() == (method not in MERGED)


@pytest.mark.parametrize("method", ["lora", "prompt_tuning"])
def test_a_training_from_the_stage_resumes_and_exports(tmp_path, method):
    make_artifact(tmp_path, adapter={"type": method, **METHODS[method]})
    make_streams(tmp_path, {"train": 421, "validation": 101})
    inputs = {"pack": tmp_path / "pack", "encode": tmp_path / "encode", "model": tmp_path / "artifact"}
    changes = {"learning_rate": 0.05, "gradient_checkpointing": method == "lora"}
    whole = run_train(inputs, tmp_path / "one", max_steps=6, lr_scheduler_type="constant", **changes)
    assert whole["eval_loss"] < 5.7, "below ln 301 of an even guess"
    measured = next(iter(whole["layers"]))
    assert measured.startswith("layers." if method == "lora" else "prompt_encoder")
    model = load_model(tmp_path / "one/output/model")
    base = load_model(tmp_path / "artifact/model")
    assert not torch.allclose(logits(model), logits(base), atol=1e-3)
    kept = "model.embed_tokens.weight" if method == "lora" else "base_model.model.embed_tokens.weight"
    weights = "model/model.safetensors" if method == "lora" else "model/base/model.safetensors"
    assert torch.equal(dict(model.named_parameters())[kept], base.model.embed_tokens.weight)
    adapter = tmp_path / "one/output/adapter"
    card = (adapter / "README.md").read_text()
    assert "base_model: pretrained\n" in card
    assert str(tmp_path) not in card + (adapter / "adapter_config.json").read_text()
    assert (
        AutoTokenizer.from_pretrained(adapter).get_vocab()
        == AutoTokenizer.from_pretrained(tmp_path / "pretrained").get_vocab()
    )
    for shown, meant in (("path/to/this/folder", adapter), ("path/to/pretrained", tmp_path / "pretrained")):
        card = card.replace(f'"{shown}"', json.dumps(str(meant)))
    names: dict = {}
    exec(card.split("```python\n")[1].split("```")[0], names)
    torch.testing.assert_close(logits(names["model"].eval())[:, -6:], logits(model), atol=1e-5, rtol=0)
    (tmp_path / "one/output").rename(tmp_path / "one/first")
    assert run_train(inputs, tmp_path / "one", max_steps=6, lr_scheduler_type="constant", **changes)["steps"] == 6
    for name in ("adapter/adapter_model.safetensors", weights):
        assert (tmp_path / "one/first" / name).read_bytes() == (tmp_path / "one/output" / name).read_bytes()


@pytest.mark.parametrize("target", ["lm_head", "embed_tokens"])
@pytest.mark.parametrize("tied", [False, True])
def test_tied_weights_of_which_one_is_adapted_are_untied_and_merged(tmp_path, target, tied):
    make_artifact(tmp_path, tied, adapter={"type": "lora", "r": 2, "target_modules": [target]})
    model = open_and_export.open_for_training(tmp_path / "artifact", seed=3)
    train_a_little(model)
    trained = logits(model)
    open_and_export.export_model(model, tmp_path / "artifact", tmp_path / "out")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "out/model")
    torch.testing.assert_close(logits(again), trained, atol=1e-5, rtol=0)
    assert not again.config.tie_word_embeddings
    assert again.lm_head.weight is not again.model.embed_tokens.weight
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "pretrained")
    kept = "model.embed_tokens" if target == "lm_head" else "lm_head"
    assert torch.equal(again.get_submodule(kept).weight, base.get_submodule(kept).weight)


def test_what_cannot_be_merged_is_never_taken_for_its_base(tmp_path):
    make_artifact(tmp_path, adapter={"type": "prompt_tuning", **PROMPT})
    model = open_and_export.open_for_training(tmp_path / "artifact", seed=3)
    train_a_little(model)
    trained = logits(model)
    found = open_and_export.export_model(model, tmp_path / "artifact", tmp_path / "out")
    assert found["unmerged"].startswith("prompt_tuning adapters are not merged here: model/ holds the unchanged base/")
    with pytest.raises(ValueError, match="Unrecognized model"):
        AutoModelForCausalLM.from_pretrained(tmp_path / "out/model")
    torch.testing.assert_close(logits(load_as_told(tmp_path / "out/model"))[:, -6:], trained, atol=1e-5, rtol=0)


@pytest.mark.parametrize("autocast", [False, True])
def test_lora_on_the_experts_of_grok1(tmp_path, autocast):
    make_pretrained(tmp_path / "pretrained", BOTH)
    initialized(vocab_size=301).save_pretrained(tmp_path / "pretrained")
    experts = ["experts.gate_up_proj", "experts.down_proj"]
    adapter = {"type": "lora", "r": 2, "target_modules": ["q_proj"], "target_parameters": experts}
    section = ModelConfig(pretrained=str(tmp_path / "pretrained"), adapter=adapter)
    summary, _ = run_stage(STAGE, section, {"tokenizer": tmp_path / "pretrained"}, tmp_path / "artifact")
    trainable = {part["name"]: part["trainable"] for part in summary["parts"]}
    assert trainable["layers.1.experts"] == 4 * 2 * ((32 + 96) + (48 + 32))
    model = open_and_export.open_for_training(tmp_path / "artifact", seed=3)
    before = load_model(tmp_path / "artifact/model")
    torch.testing.assert_close(logits(model), logits(before), atol=1e-6, rtol=0)
    model.activation_checkpointing_enable({"use_reentrant": False})
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        train_a_little(model)
    trained = logits(model)
    assert (trained - logits(before)).abs().max() > 0.1
    open_and_export.export_model(model, tmp_path / "artifact", tmp_path / "out")
    after = load_model(tmp_path / "out/model")
    torch.testing.assert_close(logits(after), trained, atol=1e-5, rtol=0)
    changed = {name for name, weight in after.named_parameters() if not weight.equal(before.get_parameter(name))}
    assert {name.rpartition("layers.0.")[2] for name in changed if "layers.0" in name} == {
        "self_attn.q_proj.weight", "moe.experts.gate_up_proj", "moe.experts.down_proj",
    }  # fmt: skip


def test_layers_of_an_architecture_that_peft_does_not_know_are_to_be_named(tmp_path):
    make_pretrained(tmp_path / "pretrained", BOTH)
    initialized(vocab_size=301).save_pretrained(tmp_path / "pretrained")
    section = ModelConfig(pretrained=str(tmp_path / "pretrained"), adapter={"type": "lora"})
    with pytest.raises(ConfigError, match=r"which layers of grok1 lora changes is not known; name them in target_mod"):
        run_stage(STAGE, section, {"tokenizer": tmp_path / "pretrained"}, tmp_path / "artifact")


def test_the_table_says_what_is_trainable(tmp_path):
    make_artifact(tmp_path, adapter={"type": "lora", "r": 2, "target_modules": ["q_proj"]})
    table = json.loads((tmp_path / "artifact/parameters.json").read_text())
    trainable = {part["name"]: part["trainable"] for part in table["parts"] if part["trainable"]}
    assert trainable == {"layers.0.attention": 2 * 2 * 16, "layers.1.attention": 2 * 2 * 16}
    assert table["trainable"] == 128


def test_a_head_over_labels_is_trained_with_the_adapter_and_merged(tmp_path):
    classes = tmp_path / "pack/labels/classes.json"
    classes.parent.mkdir(parents=True)
    classes.write_text(json.dumps({"task": "classification", "classes": ["a", "b", "c"]}))
    make_pretrained(tmp_path / "pretrained", BOTH)
    inputs = {"tokenizer": tmp_path / "pretrained", "pack": tmp_path / "pack"}
    values = {"pretrained": str(tmp_path / "pretrained"), "task": "classification"}
    section = ModelConfig(**values, adapter={"type": "lora", **METHODS["lora"]})
    run_stage(STAGE, section, inputs, tmp_path / "artifact")
    model = open_and_export.open_for_training(tmp_path / "artifact", seed=3)
    before = load_model(tmp_path / "artifact/model")
    assert before.config.label2id == {"a": 0, "b": 1, "c": 2}
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.05)
    for _ in range(3):
        torch.nn.functional.cross_entropy(model(input_ids=IDS, use_cache=False).logits, torch.tensor([0, 2])).backward()
        optimizer.step()
        optimizer.zero_grad()
    trained = logits(model)
    assert trained.argmax(-1).tolist() == [0, 2]
    open_and_export.export_model(model, tmp_path / "artifact", tmp_path / "out")
    again = load_model(tmp_path / "out/model")
    torch.testing.assert_close(logits(again), trained, atol=1e-5, rtol=0)
    assert not torch.equal(again.score.weight, before.score.weight)
    assert torch.equal(again.model.embed_tokens.weight, before.model.embed_tokens.weight)
    assert load_hf_tokenizer(tmp_path / "out/model")("A tokenizer").input_ids[-1] == again.config.eos_token_id

    prompt = ModelConfig(**values, adapter={"type": "prompt_tuning", **PROMPT})
    with pytest.raises(ConfigError, match="prompt_tuning learns a prompt, for language models; for labels"):
        run_stage(STAGE, prompt, inputs, tmp_path / "other")


def test_a_fresh_adapter_depends_on_the_seed_alone(tmp_path):
    make_artifact(tmp_path, adapter={"type": "lora"})
    one, two, other = (
        dict(open_and_export.open_for_training(tmp_path / "artifact", seed).named_parameters()) for seed in (1, 1, 2)
    )
    name = "model.layers.0.self_attn.q_proj.lora_A.default.weight"
    assert torch.equal(one[name], two[name])
    assert not torch.equal(one[name], other[name])


def test_the_frozen_base_keeps_the_precision_of_its_checkpoint(tmp_path):
    make_pretrained(tmp_path / "pretrained", BOTH).bfloat16().save_pretrained(tmp_path / "pretrained")
    section = ModelConfig(pretrained=str(tmp_path / "pretrained"), adapter={"type": "lora"})
    run_stage(STAGE, section, {"tokenizer": tmp_path / "pretrained"}, tmp_path / "artifact")
    model = open_and_export.open_for_training(tmp_path / "artifact", 0)
    assert {p.dtype for p in model.parameters() if not p.requires_grad} == {torch.bfloat16}
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}

    # Without mixed precision it is computed in float32; what is exported is as it was saved.
    model = open_and_export.open_for_training(tmp_path / "artifact", 0, is_mixed=False)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    train_a_little(model)
    trained = logits(model)
    open_and_export.export_model(model, tmp_path / "artifact", tmp_path / "out", is_mixed=False)
    exported = load_model(tmp_path / "out/model", dtype="auto")
    assert {p.dtype for p in exported.parameters()} == {torch.bfloat16}
    torch.testing.assert_close(logits(exported.float()), trained, atol=0.05, rtol=0)


def test_a_learned_prompt_takes_positions_and_the_blocks_keep_their_names(tmp_path):
    make_artifact(tmp_path, adapter={"type": "prompt_tuning", **PROMPT})
    model = open_and_export.open_for_training(tmp_path / "artifact", 0)
    assert virtual_tokens(model) == 3
    assert virtual_tokens(load_model(tmp_path / "artifact/model")) == 0
    assert list(blocks(model)) == ["layers.0", "layers.1"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"type": "lorra"}, "no method of peft; did you mean lora"),
        ({"type": "adalora"}, "moves ranks about on calls that training here does not make"),
        ({"type": "xlora"}, "mixes adapters that are trained already"),
    ],
)
def test_unknown_methods_are_refused_at_once(values, message):
    with pytest.raises(ValidationError, match=message):
        AdapterConfig(**values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"type": "lora", "lora_alhpa": 4},
            r"adapter\.lora_alhpa: lora has no such .*; did you mean lora_alpha",
        ),
        ({"type": "ia3", "r": 4}, r"model\.adapter\.r: ia3 has no such argument"),
        ({"type": "dora", "use_dora": False}, r"model\.adapter\.use_dora: dora has no such argument"),
        ({"type": "lora", "task_type": "SEQ_CLS"}, r"model\.adapter\.task_type: lora has no such argument"),
        ({"type": "lora", "layers_to_transform": [0], "target_modules": ".*"}, "lora refuses these arguments"),
        ({"type": "lora", "target_modules": ["w1"]}, "lora does not fit this model: .*"),
        ({"type": "prompt_tuning"}, "prompt_tuning does not fit this model"),
    ],
)
def test_wrong_arguments_are_configuration_errors(tmp_path, values, message):
    with pytest.raises(ConfigError, match=message) as caught:
        make_artifact(tmp_path, adapter=values)
    assert "\n" not in str(caught.value)


def test_every_method_that_is_offered_has_a_configuration():
    from peft import PeftType

    for kind in {kind.value.lower() for kind in PeftType} - UNSUPPORTED_ADAPTERS.keys():
        assert AdapterConfig(type=kind).type == kind
    assert peft_config(AdapterConfig(type="dora", r=2)).use_dora
    assert peft_config(AdapterConfig(type="rslora")).use_rslora


def test_arguments_are_part_of_the_identity():
    one, two = (ModelConfig(pretrained="x", adapter={"type": "lora", "r": r}).identity() for r in (4, 8))
    assert one["adapter"] == {"type": "lora", "r": 4}
    assert one != two


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"adapter": {"type": "lora"}}, "adapter needs pretrained"),
        ({"pretrained": "x", "quantization": "nf4"}, "quantization needs adapter"),
    ],
)
def test_what_an_adapter_needs(values, message):
    with pytest.raises(ValidationError, match=message):
        TaskModelConfig(**values)


def test_quantization_without_a_gpu_is_a_configuration_error(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"model\.quantization nf4 needs a CUDA GPU"):
        make_artifact(tmp_path, adapter={"type": "lora"}, quantization="nf4")


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["nf4", "fp4", "int8"])
def test_a_quantized_base_is_merged_in_its_own_precision(tmp_path, kind):
    make_artifact(tmp_path, adapter={"type": "lora", "target_modules": "all-linear"}, quantization=kind)
    model = open_and_export.open_for_training(tmp_path / "artifact", 0)
    assert model.device.type == "cuda"
    open_and_export.export_model(model, tmp_path / "artifact", tmp_path / "out")
    # A fresh adapter adds nothing, so the export is the checkpoint, unrounded.
    original = load_model(tmp_path / "artifact/model")
    assert torch.equal(logits(load_model(tmp_path / "out/model")), logits(original))


def test_quantized_weights_are_not_sharded(tmp_path, monkeypatch):
    monkeypatch.setattr(open_and_export, "read_description", lambda artifact: {"quantization": "nf4"})
    with pytest.raises(ConfigError, match=r"model.quantization: .* cannot be sharded .*multi_gpu_ddp.yaml"):
        open_and_export.open_for_training(tmp_path, seed=3, will_be_sharded=True)
