"""An exported folder carries its code: plain transformers loads it in a process that knows nothing of this project."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from harness import PATIENCE_SECONDS
from modeling.grok1.tiny import initialized, shaken, token_ids
from training.tiny import make_tokenizer

from pipeline.modeling.build import build_model, load_hf_tokenizer, load_model, save_model
from pipeline.modeling.grok1 import Grok1ForCausalLM, Grok1ForSequenceClassification
from pipeline.modeling.model_config import ModelConfig
from pipeline.tokens.tokenizers.pretrained import load_pretrained_tokenizer

ELSEWHERE = """
import json, sys
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
folder, ids = sys.argv[1], torch.tensor(json.loads(sys.argv[2]))
torch.set_num_threads(int(sys.argv[3]))  # the number decides over the order of sums
tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)
with torch.no_grad():
    logits = model(ids).logits
generated = model.generate(ids, max_new_tokens=6, do_sample=False)
torch.save({"logits": logits, "generated": generated}, folder + "/found.pt")
scored = AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=True, num_labels=3)
model.save_pretrained(folder + "/again")
print(json.dumps({
    "tokens": tokenizer("w3 w5")["input_ids"],
    "module": type(model).__module__,
    "scores": list(scored(ids).logits.shape),
    "knows us": any(name.split(".")[0] == "pipeline" for name in sys.modules),
}))
"""


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported")
    make_tokenizer(folder / "tokenizer")
    model = shaken(vocab_size=64)
    save_model(model, folder / "tokenizer", folder / "model")
    return model, folder


def test_plain_transformers_loads_and_generates_the_same(exported):
    model, folder = exported
    ids = token_ids()
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            ELSEWHERE,
            str(folder / "model"),
            json.dumps(ids.tolist()),
            str(torch.get_num_threads()),
        ],
        cwd=folder,
        env={
            "PATH": "/usr/bin:/bin",
            "HOME": str(folder),
            "HF_HUB_OFFLINE": "1",
            "HF_MODULES_CACHE": str(folder / "m"),
        },
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["module"].startswith("transformers_modules.")
    assert said == {"tokens": [3, 5], "scores": [2, 3], "knows us": False, "module": said["module"]}
    found = torch.load(folder / "model" / "found.pt")
    with torch.no_grad():
        assert torch.equal(found["logits"], model(ids).logits)
    assert torch.equal(found["generated"], model.generate(ids, max_new_tokens=6, do_sample=False))
    # Saved from there, the folder is complete again.
    names = {path.name for path in (folder / "model" / "again").iterdir()}
    assert {path.name for path in (folder / "model").glob("*.py")} <= names
    assert json.loads((folder / "model" / "again" / "config.json").read_text())["auto_map"] == model.config.auto_map


def test_our_own_loading_runs_no_code_of_the_folder(exported):
    model, folder = exported
    assert {path.name for path in (folder / "model").glob("*.py")} == {
        "attention_grok1.py", "compat_grok1.py", "configuration_grok1.py", "modeling_grok1.py", "router_losses.py",
    }  # fmt: skip
    for path in (folder / "model").glob("*.py"):
        assert "pipeline" not in path.read_text()
    again = load_model(folder / "model")
    assert type(again) is Grok1ForCausalLM
    assert all(torch.equal(one, two) for one, two in zip(model.parameters(), again.parameters(), strict=True))


def test_its_tokenizer_is_read_without_asking_what_grok1_is(exported, monkeypatch):
    """transformers would warn of an unknown model: the stage that reads the tokenizer knows no models."""
    from transformers import CONFIG_MAPPING, PreTrainedConfig

    def asked(*arguments, **options):
        pytest.fail("transformers looked for the model's configuration")

    monkeypatch.delitem(CONFIG_MAPPING._extra_content, "grok1")
    monkeypatch.setattr(PreTrainedConfig, "from_pretrained", asked)
    tokenizer = load_pretrained_tokenizer(exported[1] / "model", False, "tokenizer")
    assert tokenizer("w3 w5").input_ids == [3, 5]


def test_built_from_a_configuration_by_name(tmp_path):
    make_tokenizer(tmp_path)
    config = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1,
              "head_dim": 16, "num_local_experts": 4, "widening_factor": 2}  # fmt: skip
    model = build_model(ModelConfig(architecture="grok1", config=config), load_hf_tokenizer(tmp_path), seed=0)
    assert type(model) is Grok1ForCausalLM
    assert (model.config.vocab_size, model.config.pad_token_id) == (64, 0)
    # The stream begins with the variance of the two branches, although the tied head has a rule of its own.
    stream = model.model.embed_tokens.weight.detach() * model.config.embedding_multiplier
    assert float(stream.square().mean()) == pytest.approx(2, rel=0.1)


def test_a_classifier_is_saved_with_its_class(tmp_path):
    model = initialized(Grok1ForSequenceClassification, num_labels=3)
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["architectures"] == ["Grok1ForSequenceClassification"]
    assert config["auto_map"]["AutoModelForSequenceClassification"] == "modeling_grok1.Grok1ForSequenceClassification"
    again = Grok1ForSequenceClassification.from_pretrained(tmp_path)
    assert torch.equal(again.score.weight, model.score.weight)
