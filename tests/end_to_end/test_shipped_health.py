"""The health panel has no warning for any shipped configuration, over three seeds, and no figure comes near a limit.

Models are narrow, texts are those of Python's own help and of this repository, and trainings are short; architecture,
optimizer, schedule, data stages and settings of the records are those of the configurations. The learning rates of wide
models are raised as narrow ones need (Yang et al. 2022, "Tensor Programs V").
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import numpy as np
import pytest
import yaml
from harness import Project

from pipeline.telemetry.facts import HealthFacts
from pipeline.telemetry.margins import MARGINS, margin, worst_shares
from pipeline.telemetry.verdicts import verdicts_of
from pipeline.training.recording.metrics_file import read_records

ROOT = Path(__file__).parents[2]

NARROW = {
    "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}  # fmt: skip
GROK, LLAMA = {**NARROW, "head_dim": 16}, {**NARROW, "intermediate_size": 176}
LABELLED = {**LLAMA, "hidden_size": 48, "num_hidden_layers": 3, "intermediate_size": 128, "num_key_value_heads": 4}
HELP = [{"name": "help", "type": "text", "paths": ["help.txt"], "separator": "\n\n\n\n"}]
OWN = [{"name": "own", "type": "text", "paths": ["own.txt"], "separator": "\n\n"}]
SHORT = {
    "pack.block_size": 128, "tokenizer.vocab_size": 2048, "train.mixed_precision": "no", "train.logging_steps": 5,
    "train.eval_steps": 50, "train.save_steps": 100,
}  # fmt: skip
LARGE = {
    **SHORT, "train.global_batch_size": 8, "train.per_device_train_batch_size": 8, "train.torch_compile": False,
    "curate.validation_fraction": 0.1, "curate.test_fraction": 0.1, "ingest.sources": HELP,
}  # fmt: skip

CHANGES: dict[str, dict[str, Any]] = {
    "llama_125m": {
        **LARGE, "model.config": LLAMA, "train.max_steps": 160, "train.warmup_steps": 9, "train.eval_batches": 10,
        "train.learning_rate": 5e-3,
    },
    "grok1_314b": {
        **LARGE, "model.config": GROK, "train.max_tokens": 160 * 8 * 128, "train.warmup_steps": 10,
        "train.learning_rate": 5e-3, "train.attn_implementation": "eager", "train.telemetry_steps": 10,
    },
    "demo": {
        **SHORT, "model.config": GROK, "train.max_steps": 160, "train.warmup_steps": 16, "ingest.sources": HELP,
    },
    "grok1_tiny": {
        **SHORT, "model.config": GROK, "train.max_steps": 200, "train.warmup_steps": 13, "ingest.sources": HELP,
    },
    "shakespeare_char": {
        "train.max_steps": 300, "train.warmup_steps": 15, "train.logging_steps": 10, "train.eval_steps": 100,
        "train.save_steps": 200, "ingest.sources": [{**HELP[0], "separator": "\n\n"}],
    },
    "classification": {"train.num_train_epochs": 6, "model.config": LABELLED},
    "regression": {"train.num_train_epochs": 6, "model.config": LABELLED},
    "finetune_lora": {
        "pack.block_size": 128, "train.max_steps": 100, "train.warmup_steps": 10, "train.mixed_precision": "no",
        "model.pretrained": "workspace/runs/llama_125m_1/model", "model.revision": None, "ingest.sources": OWN,
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    found = Project(tmp_path_factory.mktemp("shipped"))
    shutil.copytree(ROOT / "configs", found.folder, dirs_exist_ok=True)
    shutil.copytree(ROOT / "data", found.folder / "data")
    (found.folder / "help.txt").write_text("\n\n\n\n".join(topics.values()), encoding="utf-8")
    own = (ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"))
    (found.folder / "own.txt").write_text("\n\n".join(path.read_text(encoding="utf-8") for path in own))
    return found


def test_every_shipped_configuration_is_tried():
    assert set(CHANGES) == {path.stem for path in (ROOT / "configs").glob("*.yaml")}


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("name", CHANGES)
def test_no_warning_comes_with_a_shipped_configuration(project, name, seed):
    if name == "finetune_lora" and not (project.workspace / "runs/llama_125m_1/model").exists():
        test_no_warning_comes_with_a_shipped_configuration(project, "llama_125m", 1)
    assert_without_warnings(project, name, f"{name}_{seed}", {**CHANGES[name], "run.seed": seed})


VARIED = ("classification", "shakespeare_char", "regression", "llama_125m", "demo", "grok1_tiny")


@pytest.mark.slow
@pytest.mark.parametrize("draw", range(20))
def test_no_warning_comes_with_a_variation_of_a_shipped_configuration(project, draw):
    """Of half to twice its learning rate, and with another warm-up, weight decay, clipping and schedule."""
    random, name = np.random.default_rng(draw), VARIED[draw % len(VARIED)]
    changes, shipped = {**CHANGES[name]}, yaml.safe_load((ROOT / f"configs/{name}.yaml").read_text())["train"]
    rate = changes.get("train.learning_rate", shipped.get("learning_rate", 3e-4))
    changes["train.learning_rate"] = float(rate * np.exp(random.uniform(np.log(0.5), np.log(2))))
    changes["train.weight_decay"] = float(random.choice([0, 0.05, 0.1]))
    if "train.warmup_steps" in changes:
        changes["train.warmup_steps"] = int(changes["train.warmup_steps"] * random.uniform(0.7, 2))
    if random.random() < 0.5:
        changes["train.lr_scheduler_type"] = str(random.choice(["linear", "cosine"]))
    changes["train.max_grad_norm"] = float(random.choice([0.5, 1.0, 2.0]))
    assert_without_warnings(project, name, f"varied_{draw}", {**changes, "run.seed": 100 + draw}, has_margins=False)


def assert_without_warnings(project, name, run, changes, *, has_margins=True):
    changes = {**changes, "run.name": run}
    settings = [f"{key}={json.dumps(value)}" for key, value in changes.items()]
    done = project.descent("run", f"{name}.yaml", "--until", "train", *settings)
    assert done.code == 0, done.err
    state = json.loads((project.workspace / "runs" / run / "run.json").read_text())
    train = project.workspace / "artifacts/train" / state["stages"]["train"]["key"]
    summary = json.loads((train / "manifest.json").read_text())["summary"]
    lines = [json.loads(line) for line in (train / "health.jsonl").read_text().splitlines()]
    bad = ("warning", "critical")
    assert not [line["evidence"]["words"] for line in lines if line["kind"] != "speed" and line["verdict"] in bad]
    assert all(verdict.verdict not in bad for verdict in verdicts_of(summary["health"]) if verdict.kind != "speed")
    if not has_margins:
        return
    shares = worst_shares(HealthFacts.from_json(summary["facts"]), read_records(train / "metrics.jsonl"))
    near = {
        (what, severity): share
        for what, one in shares.items()
        for severity, share in one.items()
        if margin(share) < MARGINS.get(severity, 0.0) and what != "waiting_for_data"
    }
    assert not near
