"""The train stage types what the card says, and nothing is exported that is not what was trained."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from modeling.checkpoints import make_pretrained
from modeling.grok1.tiny import initialized
from safetensors.torch import load_file, save_file
from training.tiny import make_inputs, run_train
from transformers import AutoConfig

from pipeline.errors import ExportError
from pipeline.modeling import export_check, open_and_export
from pipeline.modeling.export_check import check_export, expected_logits, load_as_told
from pipeline.modeling.grok1 import Grok1Config
from pipeline.modeling.loading_code import Usage


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return make_inputs(tmp_path_factory.mktemp("inputs"))


def test_a_training_says_how_far_its_export_is_off(inputs, tmp_path):
    summary = run_train(inputs, tmp_path, max_steps=2, warmup_steps=0)
    assert summary["export_check"] == {"error": pytest.approx(0, abs=1e-5), "allowed": export_check.REASSOCIATED}
    assert summary["warnings"] == []


@pytest.mark.parametrize("damage", ["weight", "configuration", "missing"])
def test_an_export_that_is_not_what_was_trained_is_an_error(inputs, tmp_path, monkeypatch, damage):
    save = open_and_export.save_model

    def spoiled(model, tokenizer_folder: Path, folder: Path) -> None:
        save(model, tokenizer_folder, folder)
        path, values = folder / "model.safetensors", json.loads((folder / "config.json").read_text())
        if damage == "weight":
            weights = load_file(path)
            weights["model.layers.1.mlp.down_proj.weight"] *= 1.5
            save_file(weights, path, {"format": "pt"})
        elif damage == "configuration":
            (folder / "config.json").write_text(json.dumps(values | {"rms_norm_eps": 1.0}))
        else:
            path.unlink()

    monkeypatch.setattr(open_and_export, "save_model", spoiled)
    expected = (
        "cannot be used as its card says" if damage == "missing" else "does not compute what the trained one does"
    )
    with pytest.raises(ExportError, match=f"train: the exported model.* {expected}") as caught:
        run_train(inputs, tmp_path, max_steps=2, warmup_steps=0)
    assert caught.value.exit_code == 70
    assert "\n" not in str(caught.value)


def test_a_model_that_does_not_fit_twice_is_said_to_be_unchecked(inputs, tmp_path, monkeypatch):
    monkeypatch.setattr(export_check, "SHARE_OF_MEMORY", 0.0)
    monkeypatch.setattr(export_check, "load_as_told", lambda folder: pytest.fail("it was loaded"))
    summary = run_train(inputs, tmp_path, max_steps=2, warmup_steps=0)
    assert summary["warnings"] == [summary["export_check"]["unchecked"]]
    assert "was not loaded again and compared with the trained one" in summary["warnings"][0]


def test_grok1_is_read_with_the_code_of_its_folder_alone(tmp_path, monkeypatch):
    make_pretrained(tmp_path)
    model = initialized(vocab_size=300, eos_token_id=0)
    model.save_pretrained(tmp_path)
    code = tmp_path / "modeling_grok1.py"
    code.write_text(code.read_text() + "\nGrok1ForCausalLM.mark = 7\n")
    before = {*sys.modules}
    typed = load_as_told(tmp_path)
    assert type(typed).__module__.startswith("transformers_modules.")
    assert type(typed).mark == 7
    assert not [name for name in {*sys.modules} - before if "grok1" in name], "nothing stays behind"
    assert type(AutoConfig.from_pretrained(tmp_path)) is Grok1Config
    assert check_export(tmp_path, expected_logits(model), is_merged=False)["error"] < 1e-6
    code.write_text(code.read_text() + "\nimport nothing_of_that_name\n")
    with pytest.raises(ExportError, match=r"cannot be used as its card says: .*nothing_of_that_name"):
        check_export(tmp_path, expected_logits(model), is_merged=False)


def test_nothing_is_written_into_the_home_folder(tmp_path, monkeypatch):
    make_pretrained(tmp_path / "model")
    initialized(vocab_size=300, eos_token_id=0).save_pretrained(tmp_path / "model")
    cache = tmp_path / "cache"
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(cache))
    load_as_told(tmp_path / "model")
    assert not cache.exists()


def test_half_a_precision_is_allowed_what_merging_rounds_and_nothing_else(tmp_path):
    model = make_pretrained(tmp_path).bfloat16()
    model.save_pretrained(tmp_path)
    expected = expected_logits(model)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    found = check_export(tmp_path, expected, is_merged=False)
    assert found == {"error": pytest.approx(0, abs=1e-5), "allowed": 1e-4}
    assert check_export(tmp_path, expected, is_merged=True)["allowed"] == pytest.approx(1e-4 + 4 * 2**-8 * 2**0.5)


@pytest.mark.slow
def test_a_fresh_process_gets_the_same(tmp_path):
    make_pretrained(tmp_path)
    model = initialized(vocab_size=300, eos_token_id=0)
    model.save_pretrained(tmp_path)
    usage, expected = Usage.of(tmp_path), expected_logits(model)
    assert usage is not None
    save_file({"ids": expected.ids}, tmp_path / "ids.bin")
    script = [*usage.imports, "import torch", "from safetensors.torch import load_file, save_file"]
    script += [f"folder = {str(tmp_path)!r}", *usage.loading, f"ids = load_file({str(tmp_path / 'ids.bin')!r})['ids']"]
    script += [f"save_file({{'logits': model.eval()(ids).logits.detach()}}, {str(tmp_path / 'logits.bin')!r})"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": str(tmp_path / "modules")}
    subprocess.run([sys.executable, "-c", "\n".join(script)], check=True, env=environment, cwd=tmp_path)
    torch.testing.assert_close(load_file(tmp_path / "logits.bin")["logits"], expected.logits, atol=1e-5, rtol=0)
