"""The shipped recipe for fine-tuning, with a small local model in the place of GPT-2."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from harness import Project, write_sources
from modeling.checkpoints import make_pretrained
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

ROOT = Path(__file__).parents[2]
OVERRIDES = (
    "ingest.sources=[{name: stories, type: text, paths: ['texts/*.txt'], separator: \"\\n\\n\"}]",
    "model.pretrained=base",
    "model.revision=null",
    "curate={min_chars: 20, min_words: 3, validation_fraction: 0.1, test_fraction: 0.1}",
    "pack.block_size=32",
    "train.max_steps=30",
    "train.learning_rate=0.02",
    "train.mixed_precision=no",
    "train.warmup_steps=2",
    "train.eval_steps=null",
    "evaluate.samples.max_new_tokens=8",
)


def test_lora_from_a_local_folder_to_a_merged_export(tmp_path: Path) -> None:
    project = Project(tmp_path)
    write_sources(tmp_path)
    original = make_pretrained(tmp_path / "base")
    shutil.copyfile(ROOT / "configs/finetune_lora.yaml", tmp_path / "finetune.yaml")
    done = project.descent("run", "finetune.yaml", *OVERRIDES)
    assert done.code == 0, done.err

    run = project.workspace / "runs" / "finetune_lora"
    model, tokenizer = (auto.from_pretrained(run / "model") for auto in (AutoModelForCausalLM, AutoTokenizer))
    assert torch.equal(model.model.norm.weight, original.model.norm.weight)
    assert not torch.equal(model.model.layers[0].mlp.up_proj.weight, original.model.layers[0].mlp.up_proj.weight)
    own = AutoTokenizer.from_pretrained(tmp_path / "base")
    assert tokenizer("The same tokens.").input_ids == own("The same tokens.").input_ids
    assert (tokenizer.pad_token, tokenizer.eos_token) == ("<end>", "<end>")
    ids = torch.arange(20)[None]
    alone = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tmp_path / "base"), run / "adapter")
    torch.testing.assert_close(alone(ids).logits, model(ids).logits, atol=1e-4, rtol=0)
    assert "fine-tuned from base" in (run / "model/README.md").read_text()
    train = json.loads((run / "run.json").read_text())["stages"]["train"]["key"]
    summary = json.loads((project.workspace / "artifacts/train" / train / "manifest.json").read_text())["summary"]
    assert summary["eval_loss"] < 5.69, "below ln 301, what the random base gives"

    def steps() -> dict[str, dict]:
        planned = project.descent("plan", "finetune.yaml", "--json", *OVERRIDES)
        return {step["stage"]: step for step in json.loads(planned.out)}

    assert {step["action"] for step in steps().values()} == {"reuse"}
    original.model.norm.weight.data += 1
    original.save_pretrained(tmp_path / "base")
    changed = steps()
    assert (changed["tokenizer"]["action"], changed["model"]["action"]) == ("reuse", "run")
    assert "source base/model.safetensors changed" in changed["model"]["reasons"]
