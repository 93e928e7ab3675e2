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

import pytest
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
    run = f"{name}_{seed}"
    changes = {**CHANGES[name], "run.seed": seed, "run.name": run}
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
    shares = worst_shares(HealthFacts.from_json(summary["facts"]), read_records(train / "metrics.jsonl"))
    near = {
        (what, severity): share
        for what, one in shares.items()
        for severity, share in one.items()
        if margin(share) < MARGINS.get(severity, 0.0) and what != "waiting_for_data"
    }
    assert not near
