"""What a workspace holds: its runs, and each artifact with size, age, time taken and the runs that use it."""

from __future__ import annotations

import time
from pathlib import Path

from pipeline.artifacts import Workspace
from pipeline.runs import read_run
from pipeline.stages import STAGES


def format_status(root: Path) -> str:
    """Two tables, runs and artifacts, as text."""
    workspace = Workspace(root)
    used_by: dict[tuple[str, str], list[str]] = {}
    lines = [f"workspace {root}", "", f"{'run':<24} {'outcome':<12} started"]
    folders = sorted((root / "runs").iterdir()) if (root / "runs").is_dir() else []
    for folder in folders:
        state = read_run(folder)
        if state is None:
            continue
        started = time.strftime("%Y-%m-%d %H:%M", time.localtime(state["started"]))
        lines.append(f"{state['name']:<24} {state['outcome']:<12} {started}")
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


def _age(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"
