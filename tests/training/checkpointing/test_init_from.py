"""Starting from another run's weights."""

from __future__ import annotations

import json
import shutil

import pytest
from modeling.checkpoints import make_pretrained
from safetensors.torch import load_file, save_file
from tokens.artifacts import run_stage
from training.tiny import LLAMA, make_inputs, make_tokenizer, metrics, run_train

from pipeline.config import Config
from pipeline.errors import ConfigError, MissingInputError
from pipeline.modeling.model_config import ModelConfig
from pipeline.modeling.open_and_export import open_for_training
from pipeline.stages import model as model_stage
from pipeline.stages import train
from pipeline.tokens.tokenizers.pretrained import load_pretrained_tokenizer, save_pretrained_tokenizer
from pipeline.training.checkpointing.init_from import start_from
from pipeline.training.train_config import TrainConfig


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return make_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(scope="module")
def trained(inputs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    run_train(inputs, folder)
    return folder / "output"


def test_training_goes_on_where_the_other_run_ended(inputs, trained, tmp_path):
    run_train(inputs, tmp_path, init_from=str(trained / "model"), learning_rate=1e-12, warmup_steps=0)
    ended = [line["eval/loss"] for line in metrics(trained) if "eval/loss" in line][-1]
    begun = next(line["eval/loss"] for line in metrics(tmp_path / "output") if "eval/loss" in line)
    assert begun == pytest.approx(ended, rel=1e-6)


def test_its_weights_and_not_its_place_are_the_identity(trained, tmp_path):
    copied = shutil.copytree(trained / "model", tmp_path / "elsewhere")
    sections = [TrainConfig(max_steps=1, init_from=str(place)) for place in (trained / "model", copied)]
    assert sections[0].identity() == sections[1].identity() == TrainConfig(max_steps=1).identity()
    files = [train.STAGE.source_files(section) for section in sections]
    assert [path.name for path in files[1]["weights to start from"]] == ["model.safetensors"]
    assert train.STAGE.source_files(TrainConfig(max_steps=1)) == {}


def test_a_folder_without_weights_is_a_missing_input(tmp_path):
    with pytest.raises(MissingInputError, match=r"train.init_from: .* holds no weights"):
        train.STAGE.source_files(TrainConfig(max_steps=1, init_from=str(tmp_path)))


def test_other_sizes_are_refused(inputs, tmp_path):
    wider = make_inputs(tmp_path / "wider", config={**LLAMA, "intermediate_size": 48})
    with pytest.raises(ConfigError, match=r"needs model.layers.0.mlp.gate_proj.weight as \(32, 16\), .* as \(48, 16\)"):
        run_train(inputs, tmp_path / "run", init_from=str(wider["model"] / "model"))


def test_more_layers_are_refused(inputs, tmp_path):
    deeper = make_inputs(tmp_path / "deeper", config={**LLAMA, "num_hidden_layers": 3})
    with pytest.raises(ConfigError, match=r"holds model.layers.2.* for which the model has no place"):
        run_train(inputs, tmp_path / "run", init_from=str(deeper["model"] / "model"))


def test_missing_layers_are_refused_and_a_missing_head_is_not(inputs, trained, tmp_path):
    folder = shutil.copytree(trained / "model", tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    weights.pop("lm_head.weight")
    folder.joinpath("model.safetensors").unlink()
    save_file(weights, folder / "model.safetensors")
    run_train(inputs, tmp_path / "headless", init_from=str(folder))
    weights.pop("model.norm.weight")
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(ConfigError, match=r"the model needs model.norm.weight as .* lacks it"):
        run_train(inputs, tmp_path / "run", init_from=str(folder))


def test_another_tokenizer_is_refused(inputs, trained, tmp_path):
    folder = shutil.copytree(trained / "model", tmp_path / "model")
    make_tokenizer(folder)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"] |= {"w2": 3, "w3": 2}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(ConfigError, match="has another tokenizer"):
        run_train(inputs, tmp_path / "run", init_from=str(folder))


def config(init_from, **run):
    return Config.model_validate(
        {
            "run": {"name": "second", **run},
            "ingest": {"sources": [{"name": "a", "type": "text", "paths": ["a.txt"]}]},
            "model": {"config": LLAMA},
            "train": {"max_steps": 1, "init_from": init_from},
        }
    )


def test_a_name_is_a_run_of_the_same_workspace():
    assert config("first").train.init_from == "workspace/runs/first/model"
    assert config("first", workspace="w").train.init_from == "w/runs/first/model"
    assert config("./first").train.init_from == "./first"
    with pytest.raises(ValueError, match="second is this run itself"):
        config("second")


def test_a_run_may_start_from_the_base_that_its_tokenizer_is_of(tmp_path):
    base = make_pretrained(tmp_path / "base", {"eos_token": "<end>"})
    save_pretrained_tokenizer(
        load_pretrained_tokenizer(tmp_path / "base", False, "x"), tmp_path / "tokenizer", ["text"]
    )
    section = ModelConfig(pretrained=str(tmp_path / "base"))
    run_stage(model_stage.STAGE, section, {"tokenizer": tmp_path / "tokenizer"}, tmp_path / "artifact")
    model = open_for_training(tmp_path / "artifact", seed=3)
    model.lm_head.weight.data.zero_()
    start_from(tmp_path / "base", model, tmp_path / "artifact/model", lambda line: None)
    assert model.lm_head.weight.equal(base.lm_head.weight)


def test_an_adapter_beside_its_base_is_no_start(tmp_path):
    (tmp_path / "adapter").mkdir()
    with pytest.raises(ConfigError, match=r"train\.init_from: the model in .* is an adapter that is not merged"):
        train.STAGE.source_files(TrainConfig(max_steps=1, init_from=str(tmp_path)))


def test_weights_that_are_not_finite_are_called_so(inputs, trained, tmp_path):
    folder = shutil.copytree(trained / "model", tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    folder.joinpath("model.safetensors").unlink()
    weights["model.layers.1.mlp.down_proj.weight"][3, 5] = float("inf")
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(
        ConfigError, match=r"not finite, such as model\.layers\.1\.mlp\.down_proj\.weight; take an earl"
    ):
        run_train(inputs, tmp_path / "run", init_from=str(folder))


CODE = """
import os
os.mkdir({!r})
from transformers import LlamaConfig as C, LlamaForCausalLM as M
"""


def test_code_is_run_only_if_it_is_that_of_the_model(inputs, trained, tmp_path, monkeypatch):
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    folder = shutil.copytree(trained / "model", tmp_path / "model")
    path, code = folder / "config.json", folder / "evil.py"
    classes = {"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.M"}
    values = {**json.loads(path.read_text()), "auto_map": classes}
    path.unlink()
    path.write_text(json.dumps(values))
    code.write_text(CODE.format(str(tmp_path / "pwned")))
    run_train(inputs, tmp_path / "known", init_from=str(folder))
    path.write_text(json.dumps({**values, "model_type": "evil"}))
    with pytest.raises(ConfigError, match=r"train\.init_from: the model in .* cannot be loaded"):
        run_train(inputs, tmp_path / "unknown", init_from=str(folder))
    assert not (tmp_path / "pwned").exists()


def test_only_safetensors_inside_the_folder_are_read(trained, tmp_path):
    folder = shutil.copytree(trained / "model", tmp_path / "model")
    (folder / "model.safetensors").rename(tmp_path / "model/part.safetensors")
    section = TrainConfig(max_steps=1, init_from=str(folder))
    for name in ("w.bin", "../part.safetensors", str(tmp_path / "model/part.safetensors")):
        index = {"weight_map": {"lm_head.weight": name}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
        with pytest.raises(ConfigError, match=r"train\.init_from: .* names .*, and only \*\.safetensors in the folder"):
            train.STAGE.source_files(section)
