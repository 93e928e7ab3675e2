"""What `mixed_precision: auto` comes to on this machine and on one whose processor has no bf16."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from harness import Project, Result

from pipeline.machine import bf16_support

HERE = "bf16" if bf16_support({}).is_native else "no"
WITHOUT = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
"""As on a processor with AVX2 alone, in which torch has products in bf16 only by emulation."""

has_bf16 = pytest.mark.skipif(HERE == "no", reason="this processor has no bf16")


def planned(project: Project, *settings: str, **environ: str) -> dict[str, Any]:
    """The plan for training."""
    told = project.descent("plan", "tiny.yaml", "--json", *settings, **environ)
    assert told.code == 0, told.err
    [step] = [step for step in json.loads(told.out) if step["stage"] == "train"]
    return dict(step)


def test_auto_has_the_key_of_what_it_comes_to(
    finished: Project, without_torch: Callable[[Project, list[str]], Result]
) -> None:
    here = planned(finished)
    assert here["action"] == "reuse"
    [note] = here["notes"]
    assert note.startswith(f"train.mixed_precision: auto is {HERE} here (")
    told = without_torch(finished, ["plan", "tiny.yaml"])
    assert (told.code, told.out.splitlines()[-1]) == (0, note)
    assert note in finished.descent("explain", "tiny.yaml", "train").out
    explicit = {value: planned(finished, f"train.mixed_precision={value}") for value in ("bf16", "no")}
    assert explicit[HERE] == {**here, "notes": []}
    assert explicit["bf16"]["key"] != explicit["no"]["key"]
    elsewhere = planned(finished, **WITHOUT)
    assert (elsewhere["key"], elsewhere["reasons"]) == (explicit["no"]["key"], explicit["no"]["reasons"])
    assert elsewhere["notes"][0].startswith("train.mixed_precision: auto is no here (")


@has_bf16
def test_a_machine_without_bf16_trains_anew_in_float32(finished: Project) -> None:
    assert planned(finished, **WITHOUT)["reasons"] == ['train.mixed_precision "bf16" -> "no"']
    done = finished.descent("run", "tiny.yaml", "--until", "train", **WITHOUT)
    assert done.code == 0, done.err
    manifest = json.loads((finished.artifact("train") / "manifest.json").read_text())
    assert manifest["section"]["mixed_precision"] == "no"
    assert "mixed_precision" not in manifest["given"]
    assert manifest["summary"]["precision"] == "float32"
    assert manifest["key"] == planned(finished, "train.mixed_precision=no")["key"]
    assert "warning: train.mixed_precision" not in done.err

    # The run's configuration says what was carried out, so that it means the same on any machine.
    config = finished.workspace / "runs/tiny/config.yaml"
    assert yaml.safe_load(config.read_text())["train"]["mixed_precision"] == "no"
    shutil.copy(config, finished.folder / "tiny.yaml")
    assert (planned(finished)["action"], planned(finished)["key"]) == ("reuse", manifest["key"])


@has_bf16
def test_a_killed_training_in_bf16_is_not_continued_in_float32(finished: Project) -> None:
    key = planned(finished)["key"]
    shutil.rmtree(finished.workspace / "artifacts/train")
    assert planned(finished)["action"] == "resume (step 24)"
    elsewhere = planned(finished, **WITHOUT)
    assert elsewhere["action"] == "run"
    assert elsewhere["reasons"][-1] == (
        f'does not go on from training {key} at step 24: train.mixed_precision "bf16" -> "no"'
    )


def test_bf16_that_is_emulated_is_warned_of_once(finished: Project) -> None:
    done = finished.descent(
        "run", "tiny.yaml", "train.mixed_precision=bf16", "train.max_steps=6", "--until", "train", **WITHOUT
    )
    assert done.code == 0, done.err
    [warning] = re.findall(
        r"^train: warning: train.mixed_precision is bf16, which the CPU only emulates: products take (\S+) times as "
        r"long as in float32; write auto or no$",
        done.err,
        re.MULTILINE,
    )
    assert float(warning) > 1
    manifest = json.loads((finished.artifact("train") / "manifest.json").read_text())
    assert manifest["section"]["mixed_precision"] == manifest["given"]["mixed_precision"] == "bf16"
    assert manifest["summary"]["precision"] == "bf16, emulated"


def test_shipped_configurations_choose_for_themselves() -> None:
    """Those for any machine leave the choice to it; those whose figures are of float32, or for one GPU, do not."""
    folder = Path(__file__).parents[2] / "configs"
    said = {path.stem: yaml.safe_load(path.read_text()).get("train", {}) for path in folder.glob("*.yaml")}
    assert {name: train.get("mixed_precision", "auto") for name, train in said.items()} == {
        "demo": "auto",
        "grok1_tiny": "auto",
        "finetune_lora": "auto",
        "classification": False,  # YAML 1.1's word for no
        "regression": False,
        "shakespeare_char": False,
        "llama_125m": "bf16",
        "grok1_314b": "bf16",
    }
