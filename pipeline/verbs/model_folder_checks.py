"""Checks of a run's `model/` before a verb loads it: is it what the training made, and with which settings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline import atomic
from pipeline.config import Config
from pipeline.engine.artifacts import Workspace
from pipeline.engine.differences import flatten, shown_setting
from pipeline.engine.manifests import read_manifest
from pipeline.engine.run_json import UNKNOWN, key_of, placed_stages, read_run_json
from pipeline.errors import ConfigError, DamageError
from pipeline.integrity import digest_of


def check_trained_files(workspace: Workspace, name: str) -> None:
    """Raises DamageError when a file of a run's model/ is not what its training made. The card may be edited."""
    files = {file: one for file, one in _trained_files(workspace, name).items() if file.startswith("model/")}
    if not files:
        raise DamageError(f"{workspace.run(name) / 'model'}: {UNKNOWN.format('training')}")
    for file, entry in files.items():
        path = workspace.run(name) / file
        is_there = path.is_file()
        if not (is_there and digest_of(path) == entry["sha256"]):
            what = "is not what the training made" if is_there else "is missing"
            raise DamageError(f"{path} {what}; `descent verify`, then run again: it is put there anew")


def check_code(workspace: Workspace, name: str) -> None:
    """Raises ConfigError when a run's model/ holds Python code that its training did not make: loading would run it."""
    folder, files = workspace.run(name) / "model", _trained_files(workspace, name)
    for path in sorted(folder.rglob("*.py")):
        known = files.get(f"model/{path.relative_to(folder).as_posix()}", {})
        if known.get("sha256") != atomic.digest_file(path):
            raise ConfigError(f"{path}: the run did not make this code, so it is not run; remove it")


def _trained_files(workspace: Workspace, name: str) -> dict[str, Any]:
    """The files of the training that a run's folder shows, from its manifest."""
    key = key_of(placed_stages(read_run_json(workspace.run(name)) or {"stages": {}}), "train") or "none"
    return (read_manifest(workspace.artifact("train", key)) or {"files": {}})["files"]


def made_with(workspace: Workspace, config: Config, keys: Sequence[str]) -> list[str]:
    """Settings with which the model of a run was made, below these keys, if the configuration now says otherwise."""
    told = []
    for stage, entry in placed_stages(read_run_json(workspace.run(config.run.name)) or {"stages": {}}).items():
        manifest, section = read_manifest(workspace.artifact(stage, entry["key"])), getattr(config, stage, None)
        if manifest is None or section is None or stage in ("evaluate", "report"):
            continue
        before, after = flatten(manifest["section"], stage), flatten(section.identity(), stage)
        changed = [name for name in before if before[name] != after.get(name)]
        told += [
            f"{name} {shown_setting(before, name)}"
            for name in changed
            if any(name == key or name.startswith(f"{key}.") for key in keys)
        ]
    return told
