"""Care of a workspace: find what is broken, and sweep what no run uses."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.artifacts import MANIFEST, Manifest, Workspace, check_sizes, is_key, read_manifest
from pipeline.atomic import TEMPORARY_PREFIX, digest_file
from pipeline.progress import Progress
from pipeline.runs import read_run
from pipeline.training.checkpoints import list_checkpoints, problem_of, set_aside


def verify(workspace: Workspace, progress: Progress) -> list[str]:
    """Read every file of every artifact and checkpoint again and set the broken ones aside.

    Returns a line for each: what is wrong, and where it went. Whatever needs it is built again by the next run.
    """
    artifacts, checkpoints = list(_artifacts(workspace)), list(_checkpoints(workspace))
    found = []
    with progress.task("reading", total=len(artifacts) + len(checkpoints), unit="folders") as task:
        for folder in artifacts:
            if problem := _problem(folder):
                found.append(f"{problem}: moved to {workspace.set_aside(folder.parent.name, folder.name)}")
            task.update()
        for folder in checkpoints:
            if wrong := problem_of(folder):
                found.append(f"the checkpoint {folder} is broken ({wrong}): moved to {set_aside(folder)}")
            task.update()
    return found


def _problem(folder: Path) -> str:
    manifest = read_manifest(folder)
    if manifest is None or manifest["key"] != folder.name:
        return f"the artifact {folder} has no readable manifest"
    if problem := check_sizes(folder, manifest):
        return problem
    changed = [name for name, entry in manifest["files"].items() if digest_file(folder / name) != entry["sha256"]]
    return f"the artifact file {folder / changed[0]} does not match its digest" if changed else ""


@dataclass(frozen=True)
class Unused:
    """A folder that no run needs, why, and its size."""

    folder: Path
    reason: str
    num_bytes: int


def find_unused(workspace: Workspace) -> list[Unused]:
    """What may be deleted: artifacts that no run.json names, those set aside, leftovers of killed builders, and
    checkpoints of trainings that are complete or that no run is at. What somebody is building is left out."""
    used, in_progress = _marked(workspace)
    found = []
    for folder in sorted(workspace.root.glob("artifacts/*/*")):
        stage, name = folder.parent.name, folder.name
        if is_key(name) and (stage, name) not in used:
            found.append((folder, name, "no run uses it"))
        elif name.startswith("aside-"):
            found.append((folder, name.split("-")[1], "was set aside"))
        elif name.startswith(TEMPORARY_PREFIX):
            found.append((folder, name.removeprefix(TEMPORARY_PREFIX).split("-")[0], "was left by a killed run"))
    unused = [
        Unused(folder, reason, _size(folder))
        for folder, key, reason in found
        if not workspace.is_locked(folder.parent.name, key)
    ]
    for folder in sorted(workspace.root.glob("checkpoints/*")):
        complete = (workspace.artifact("train", folder.name) / MANIFEST).exists()
        if (complete or folder.name not in in_progress) and not workspace.is_locked("train", folder.name):
            reason = "its training is complete" if complete else "no run is at this training"
            unused.append(Unused(folder, reason, _size(folder)))
    return unused


def delete(unused: list[Unused]) -> None:
    """Delete folders so that none is ever taken for a whole artifact."""
    for item in unused:
        doomed = item.folder.with_name(f"{TEMPORARY_PREFIX}{item.folder.name}-doomed")
        os.rename(item.folder, doomed)
        shutil.rmtree(doomed)


def _marked(workspace: Workspace) -> tuple[set[tuple[str, str]], set[str]]:
    """Artifacts that runs name, with all that they were made from, and the keys of trainings in progress."""
    used: set[tuple[str, str]] = set()
    in_progress: set[str] = set()
    for folder in workspace.root.glob("runs/*"):
        state = read_run(folder)
        if state is None:
            continue
        in_progress.add(str(state.get("training")))
        stages = {**state.get("earlier", {}), **state["stages"]}
        pending = [(stage, entry["key"]) for stage, entry in stages.items()]
        while pending:
            stage, key = pending.pop()
            if (stage, key) not in used:
                used.add((stage, key))
                manifest: Manifest | None = read_manifest(workspace.artifact(stage, key))
                pending += manifest["input_keys"].items() if manifest else []
    return used, in_progress


def _artifacts(workspace: Workspace) -> Iterator[Path]:
    yield from (path for path in sorted(workspace.root.glob("artifacts/*/*")) if is_key(path.name))


def _checkpoints(workspace: Workspace) -> Iterator[Path]:
    for work in sorted(workspace.root.glob("checkpoints/*")):
        if not workspace.is_locked("train", work.name):
            yield from list_checkpoints(work)


def _size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())
