"""explain, verify and gc on a real workspace."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from harness import STAGES, Project


def damage(path: Path, kind: str) -> None:
    path.chmod(0o644)
    content = path.read_bytes()
    if kind == "delete":
        path.unlink()
    elif kind == "flip":
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    else:
        path.write_bytes(content[:-1] if kind == "truncate" else b"")


@pytest.mark.parametrize("kind", ["flip", "truncate", "empty", "delete"])
def test_verify_finds_damage_in_any_file_and_a_run_mends_it(finished: Project, kind: str) -> None:
    before = finished.digests()
    assert finished.descent("verify", "tiny.yaml").code == 0
    damaged = []
    for stage in STAGES:
        files = json.loads((finished.artifact(stage) / "manifest.json").read_text())["files"]
        # The view's model/ shares its weights with the artifact, as a user's edit through it would.
        path = finished.artifact(stage) / max(files, key=lambda name: files[name]["size"])
        damage(path, kind)
        damaged.append(path)
    result = finished.descent("verify", "tiny.yaml")
    assert result.code == 74
    for path in damaged:
        assert f"descent: the artifact file {path.relative_to(finished.folder)} " in result.err
    assert "Traceback" not in result.err
    assert finished.descent("verify", "tiny.yaml").code == 0
    assert finished.plan()["ingest"]["reasons"] == ["its artifact was set aside"]
    assert set(finished.run().values()) == {"built"}
    assert finished.digests() == before


def test_verify_sets_a_broken_checkpoint_aside(finished: Project) -> None:
    checkpoint = max(finished.workspace.glob("checkpoints/*/step-*"))
    damage(checkpoint / "model.safetensors", "flip")
    result = finished.descent("verify", "tiny.yaml")
    assert result.code == 74
    assert f"{checkpoint.name} is broken (model.safetensors does not match its digest)" in result.err
    assert not checkpoint.exists()
    assert checkpoint.with_name(f"broken-{checkpoint.name}").exists()


def test_status_tells_how_each_run_ended(finished: Project, without_torch) -> None:
    shutil.copytree(finished.workspace / "runs/tiny", finished.workspace / "runs/was-killed", symlinks=True)
    finished.write_state(outcome="running")
    (finished.workspace / "runs/tiny/run.json").replace(finished.workspace / "runs/was-killed/run.json")
    finished.run()
    assert finished.descent("run", "tiny.yaml", "run.name=bad", "ingest.sources.1.text_field=none").code == 65
    result = without_torch(finished, ["status", "tiny.yaml"])
    assert result.code == 0, result.err
    killed, tiny, bad = (line.split(maxsplit=4) for line in result.out.splitlines()[3:6])
    assert bad[:2] == ["bad", "failed"]
    assert tiny[:2] == ["tiny", "done"]
    assert re.fullmatch(r"\d\.\d{3} bits per byte \(.*\) after 24 steps", tiny[4])
    assert killed[1] == "killed"
    assert result.out.splitlines()[6] == '  ingest.sources.1.text_field="none"', "the other two have the same settings"
    assert result.out.splitlines()[7].startswith("  ingest: 91 of 91 records of records are unusable")


def test_gc_lists_then_deletes_what_no_run_uses(finished: Project) -> None:
    keys = {stage: finished.artifact(stage).name for stage in STAGES}
    finished.run("train.learning_rate=0.003")
    finished.run("--force", "curate", "train.learning_rate=0.003")
    listed = finished.descent("gc", "tiny.yaml")
    assert listed.code == 0
    for stage in ("train", "evaluate", "report"):
        assert f"artifacts/{stage}/{keys[stage]}  (of an earlier result of run tiny)" in listed.out
    assert "(was set aside)" in listed.out
    assert "(its training is complete: only a longer one could go on from it)" in listed.out
    assert (finished.workspace / "artifacts/train" / keys["train"]).exists()
    assert finished.descent("gc", "tiny.yaml", "--delete").code == 0
    assert not (finished.workspace / "artifacts/train" / keys["train"]).exists()
    assert finished.descent("gc", "tiny.yaml").out == "nothing is unused\n"
    settings = ["run", "tiny.yaml", "train.learning_rate=0.003"]
    assert finished.descent(*settings).out.count(" reuse ") == len(STAGES)


def test_gc_keeps_what_a_killed_training_needs(finished: Project) -> None:
    key = finished.artifact("train").name
    shutil.rmtree(finished.workspace / "artifacts/train")
    finished.write_state(training=key)
    assert key not in finished.descent("gc", "tiny.yaml").out
    finished.write_state(training="other")
    assert f"checkpoints/{key}  (no run is at this training)" in finished.descent("gc", "tiny.yaml").out


def test_explain_shows_the_identity_and_what_differs(finished: Project, without_torch) -> None:
    result = without_torch(finished, ["explain", "tiny.yaml", "train", "train.learning_rate=0.1"])
    assert result.code == 0, result.err
    assert "train.learning_rate 0.005 -> 0.1" in result.out
    for part in ("learning_rate: 0.1", "pack/train: ", "seed: 7", "version: "):
        assert part in result.out
    assert "logging_steps" not in result.out
    shutil.rmtree(finished.workspace / "artifacts/pack")
    missing = finished.descent("explain", "tiny.yaml", "train")
    assert missing.code == 66
    assert missing.err.startswith("descent: pack: its artifact is needed")


def test_gc_keeps_the_last_whole_run_through_failed_and_partial_ones(finished: Project) -> None:
    key = finished.artifact("train").name
    assert finished.descent("run", "tiny.yaml", "curate.filters=[]", "--until", "ingest").code == 0
    assert finished.descent("run", "tiny.yaml", "normalize.steps=[{type: lowercase}]", "--until", "curate").code == 0
    assert finished.descent("run", "tiny.yaml", "ingest.sources.1.text_field=none").code == 65
    assert finished.descent("gc", "tiny.yaml", "--delete").code == 0
    assert (finished.workspace / "artifacts/train" / key).exists()
    assert set(finished.run().values()) == {"reused"}
