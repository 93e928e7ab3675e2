"""Exports of every kind, tried by scripts/check_export.py in transformers 5 and in 4.57."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from modeling.checkpoints import make_pretrained
from tokens.artifacts import run_stage
from training.tiny import GPT2, LLAMA, make_tokenizer

from pipeline.modeling.build import build_model, load_hf_tokenizer, save_model
from pipeline.modeling.export_compatibility import set_longest_input
from pipeline.modeling.heads import CAUSAL_LM, head_over_labels
from pipeline.modeling.model_config import ModelConfig
from pipeline.modeling.open_and_export import export_model, open_for_training
from pipeline.stages.model import STAGE
from pipeline.tokens.template import end_texts

SCRIPTS = Path(__file__).parents[2] / "scripts"
EARLIER = ("transformers==4.57.6", "tokenizers==0.22.2", "huggingface_hub==0.36.2")
WINDOW = 16
FAST = {**LLAMA, "rope_parameters": {"rope_type": "default", "rope_theta": 5e5}}
GROK1 = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16,
         "num_local_experts": 4, "widening_factor": 2}  # fmt: skip
KINDS = {
    "llama": ("llama", FAST, "causal_lm"),
    "gpt2": ("gpt2", GPT2, "causal_lm"),
    "qwen3": ("qwen3", {**LLAMA, "head_dim": 8}, "causal_lm"),
    "mixtral": ("mixtral", {**LLAMA, "num_local_experts": 4}, "causal_lm"),
    "grok1": ("grok1", GROK1, "causal_lm"),
    "llama classes": ("llama", FAST, "classification"),
    "gpt2 classes": ("gpt2", GPT2, "classification"),
    "grok1 classes": ("grok1", GROK1, "classification"),
    "gpt2 number": ("gpt2", GPT2, "regression"),
}
ALL = """
import sys
sys.path.insert(0, sys.argv[1])
import check_export
arguments = [line.split("\\t") for line in sys.stdin.read().splitlines()]
codes = {}
for given in arguments:
    print("#", given[0])
    codes[given[0]] = check_export.main(given)
sys.exit(any(codes.values()))
"""


def check_all(exports: list[list[str]], scratch: Path, overlay: Path | None) -> str:
    """What the script prints of each export; fails if it finds a fault in any."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": str(scratch)}
    if overlay is not None:
        environment["PYTHONPATH"] = str(overlay)
    done = subprocess.run(
        [sys.executable, "-c", ALL, str(SCRIPTS)], input="\n".join(map("\t".join, exports)), env=environment, cwd="/",
        capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout[-6000:]}\n{done.stderr[-2000:]}"
    return done.stdout


HEADS = {
    "causal_lm": CAUSAL_LM,
    "classification": head_over_labels("single_label_classification", 3),
    "regression": head_over_labels("regression", 1),
}


def write_export(tokenizer: Path, target: Path, architecture: str, config: dict, task: str = "causal_lm") -> None:
    """A model as training leaves it, with weights so large that a wrong position is seen in its logits."""
    section = ModelConfig(architecture=architecture, config=config, task=task)
    model = build_model(section, load_hf_tokenizer(tokenizer), seed=0, head=HEADS[task])
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if ".layers." in name or ".h." in name:
                weight *= 1 if weight.ndim == 1 else 10
    save_model(model, tokenizer, target)
    set_longest_input(target, WINDOW)
    if task != "causal_lm":
        end_texts(target)


def make_exports(folder: Path) -> list[list[str]]:
    """Arguments of the script for each kind of export, made below `folder`."""
    make_tokenizer(folder / "tokenizer")
    exports = []
    for name, (architecture, config, task) in KINDS.items():
        target = folder / name / "model"
        write_export(folder / "tokenizer", target, architecture, config, task)
        exports.append([str(target), "--reference", str(folder / f"{name}.json")])
    base = folder / "base"
    make_pretrained(base, {"eos_token": "<end>", "pad_token": "<pad>"})
    section = ModelConfig(pretrained=str(base), adapter={"type": "lora", "r": 2})
    run_stage(STAGE, section, {"tokenizer": base}, folder / "artifact")
    adapted = open_for_training(folder / "artifact", seed=3)
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    export_model(adapted, folder / "artifact", folder / "lora")
    exports.append([str(folder / "lora/model"), "--reference", str(folder / "lora.json"), "--base", str(base)])
    return exports


@pytest.mark.slow
def test_every_kind_of_export_is_the_same_in_both_versions_of_transformers(tmp_path: Path) -> None:
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(tmp_path / "earlier")]
    installed = subprocess.run([*install, *EARLIER], capture_output=True, text=True, timeout=300, check=False)
    if installed.returncode != 0:
        pytest.skip(f"transformers 4.57 cannot be installed: {installed.stderr.strip()[-200:]}")
    exports = make_exports(tmp_path)
    now = check_all(exports, tmp_path / "modules", None)
    before = check_all(exports, tmp_path / "modules 4", tmp_path / "earlier")
    assert now.count("written to") == before.count("from those of transformers 5") == len(exports)
    for said in (now, before):
        assert said.count("logits of base and adapter differ by") == 1
        assert said.count("continues a long text") == sum(task == "causal_lm" for *_, task in KINDS.values()) + 1
    assert before.count("transformers 4.57.6 ") == len(exports)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "changes", "told"),
    [
        ("tokenizer_config.json", {"model_max_length": 10**30}, "tokenizer"),
        ("config.json", {"auto_map": {"AutoConfig": "author/name--code.Config"}}, "names"),
        ("config.json", {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4}}, "logits"),
    ],
)
def test_the_script_finds_faults(tmp_path: Path, file: str, changes: dict, told: str) -> None:
    make_tokenizer(tmp_path / "tokenizer")
    folder = tmp_path / "model"
    write_export(tmp_path / "tokenizer", folder, "llama", FAST)
    arguments = [str(folder), "--reference", str(tmp_path / "logits.json")]
    check_all([arguments], tmp_path / "modules", None)
    values = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps({**values, **changes}))
    with pytest.raises(AssertionError, match=rf"(?m)^ *{told} +failed"):
        check_all([arguments], tmp_path / "modules", None)
