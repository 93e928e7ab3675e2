"""The shipped recipe for fine-tuning, with a small local model in the place of GPT-2."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from harness import Project, write_sources
from modeling.checkpoints import make_pretrained
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from pipeline.tasks import task_of_split

ROOT = Path(__file__).parents[2]
OVERRIDES = (
    "ingest.sources=[{name: stories, type: text, paths: ['texts/*.txt'], separator: \"\\n\\n\"}]",
    "model.pretrained=base",
    "model.revision=null",
    "curate={filters: [{type: min_chars, value: 20}], validation_fraction: 0.1, test_fraction: 0.1}",
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


def test_a_prompt_is_loaded_beside_its_base_wherever_it_is_told(tmp_path: Path) -> None:
    project = Project(tmp_path)
    write_sources(tmp_path)
    make_pretrained(tmp_path / "base")
    shutil.copyfile(ROOT / "configs/finetune_lora.yaml", tmp_path / "finetune.yaml")
    prompt = (*OVERRIDES, "model.adapter={type: prompt_tuning, num_virtual_tokens: 8}", "train.learning_rate=0.5")
    done = project.descent("run", "finetune.yaml", *prompt)
    assert done.code == 0, done.err

    run = project.workspace / "runs" / "finetune_lora"
    assert "(an adapter beside its base/: load both with peft, as its README.md shows)" in done.out
    assert "prompt_tuning adapters are not merged here" in done.err
    assert "prompt_tuning adapters are not merged here" in (run / "report.html").read_text()
    card = (run / "model/README.md").read_text()
    typed = card.partition("```python\n")[2].partition("```")[0].replace("path/to/this/folder", str(run / "model"))
    names: dict[str, Any] = {}
    exec(typed, names)
    base = AutoModelForCausalLM.from_pretrained(run / "model/base").eval()
    evaluation = json.loads(next((project.workspace / "artifacts/evaluate").glob("*/evaluation.json")).read_text())
    measured = evaluation["test"]["loss"]
    assert loss_of(names["model"], project) == pytest.approx(measured, abs=1e-4)
    assert loss_of(base, project) > measured + 5e-3, "the base alone is not what was measured"
    wrote = project.descent("generate", "finetune.yaml", "--prompt", "The", "--temperature", "0", *prompt)
    assert wrote.code == 0, wrote.err


@torch.no_grad()
def loss_of(model: Any, project: Project) -> float:
    """Nats a token of the test split, window by window."""
    folder = {stage: next((project.workspace / "artifacts" / stage).iterdir()) for stage in ("pack", "encode")}
    split = task_of_split(folder["pack"], "test").open_split(folder["pack"], folder["encode"], "test")
    total, count = 0.0, 0
    for index in range(len(split)):
        batch = {name: torch.from_numpy(values) for name, values in split.batch([index]).items()}
        ids, labels = batch["input_ids"], batch["labels"]
        logits = model.eval()(input_ids=ids).logits[:, -ids.shape[1] :]
        total += float(torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum"))
        count += int((labels != -100).sum())
    return total / count
