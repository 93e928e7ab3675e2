"""What a workspace holds: its runs with their results, and each artifact with size, age, time taken and the runs that
use it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.artifacts import Workspace
from pipeline.manifests import read_manifest
from pipeline.runs import main_result, outcome_of, read_run
from pipeline.stages import STAGES
from pipeline.terminal import printable

LONGEST_MESSAGE = 100


def format_status(root: Path) -> str:
    """Two tables, runs and artifacts, as text."""
    workspace = Workspace(root)
    used_by: dict[tuple[str, str], list[str]] = {}
    lines = [f"workspace {root}", "", f"{'run':<24} {'outcome':<12} {'started':<17} result"]
    folders = sorted((root / "runs").iterdir()) if (root / "runs").is_dir() else []
    for folder in folders:
        state = read_run(folder)
        if state is None:
            continue
        started = time.strftime("%Y-%m-%d %H:%M", time.localtime(state["started"]))
        outcome = outcome_of(workspace, folder.name, state)
        lines.append(f"{state['name']:<24} {outcome:<12} {started}  {_result(workspace, state)}".rstrip())
        for stage, entry in state["stages"].items():
            used_by.setdefault((stage, entry["key"]), []).append(state["name"])
    lines += ["", f"{'stage':<10} {'key':<17} {'size':>10} {'age':>8} {'took':>9}  used by"]
    for stage in STAGES:
        for manifest in workspace.manifests(stage.name):
            size = sum(entry["size"] for entry in manifest["files"].values())
            runs = ", ".join(used_by.get((stage.name, manifest["key"]), ["-"]))
            age = _age(time.time() - manifest["started"])
            taken = f"{manifest['seconds']:.1f} s"
            lines.append(f"{stage.name:<10} {manifest['key']:<17} {size / 1e6:>7.2f} MB {age:>8} {taken:>9}  {runs}")
    return "\n".join(lines)


def _result(workspace: Workspace, state: Mapping[str, Any]) -> str:
    """The main figure of a run on held-out documents, or why there is none."""
    evaluated, trained = (_summary(workspace, state, stage) for stage in ("evaluate", "train"))
    if evaluated and trained:
        return f"{main_result(evaluated)} after {trained['steps']:,} steps"
    message = printable(str(state.get("message", "")))
    return message if len(message) <= LONGEST_MESSAGE else f"{message[:LONGEST_MESSAGE]}..."


def _summary(workspace: Workspace, state: Mapping[str, Any], stage: str) -> dict[str, Any] | None:
    entry = state["stages"].get(stage)
    manifest = read_manifest(workspace.artifact(stage, entry["key"])) if entry else None
    return dict(manifest["summary"]) if manifest else None


def _age(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"
