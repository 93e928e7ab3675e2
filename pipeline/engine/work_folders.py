"""Work folders of long stages: what each is work on, and where a stage goes on from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.atomic import read_sealed, remove, sealed, write_json
from pipeline.engine.artifacts import Identity, Workspace
from pipeline.engine.checkpointing_stage import OtherWork, StageStart
from pipeline.engine.manifests import CHECKED, Manifest
from pipeline.engine.stage import Stage
from pipeline.section import Section

IDENTITY = "identity.json"
"""In a work folder, what it is work on, and whether its inputs were compared with their digests whenever they were
read: what was killed has no manifest."""


def works(workspace: Workspace) -> Iterator[tuple[Stage, Path]]:
    """The work folders of a workspace, each with its stage. One without identity.json belongs to the first stage with
    checkpoints."""
    stages = workspace.resumable
    for folder in sorted(workspace.root.glob("checkpoints/*")):
        if folder.is_dir() and stages:
            name = (identity_of(folder) or {}).get("stage")
            yield stages.get(str(name), next(iter(stages.values()))), folder


def identity_of(work: Path) -> dict[str, Any] | None:
    """What a work folder is work on; None where it does not tell."""
    return read_sealed(work / IDENTITY)


def is_checked(work: Path) -> bool:
    """Whether all inputs of what is in a work folder were compared with their digests."""
    return (identity_of(work) or {}).get(CHECKED) is True


def stage_start(
    stage: Stage, config: Section, identity: Identity, workspace: Workspace, manifests: Mapping[str, Manifest]
) -> StageStart:
    """What a long stage may look at before it begins."""
    summaries = {name: manifests[name]["summary"] for name in stage.upstream}
    work = workspace.checkpoints(identity.key)
    return StageStart(config, identity.payload, work, summaries, lambda: _others(stage, identity, workspace))


def _others(stage: Stage, identity: Identity, workspace: Workspace) -> Iterator[OtherWork]:
    """Work on the stage in a workspace, finished or not, that differs in its settings alone."""
    wanted = identity.payload
    payloads: dict[str, dict[str, Any]] = {manifest["key"]: manifest for manifest in workspace.manifests(stage.name)}
    for own, folder in works(workspace):
        payload = identity_of(folder) if own is stage else None
        if payload is not None and isinstance(payload.get("section"), dict) and stage.long.list_checkpoints(folder):
            payloads.setdefault(folder.name, payload)
    for key, found in payloads.items():
        payload = identity.with_defaults(found)
        is_like = all(payload.get(name) == value for name, value in wanted.items() if name != "section")
        if key != identity.key and is_like:
            yield OtherWork(key, payload, wanted, workspace.checkpoints(key))


def begin_work(
    stage: Stage, start: StageStart, identity: Identity, workspace: Workspace, say: Callable[[str], None], forced: bool
) -> bool:
    """Make the work folder of a stage whose lock is held. It is empty if `forced`. Otherwise it keeps its checkpoints
    or takes those of other work. Returns whether all inputs of what is there were checked."""
    if forced:
        remove(start.work)
    start.work.mkdir(parents=True, exist_ok=True)
    origin = start.work if forced else take_over(stage, start, workspace, say)
    checked = is_checked(origin) or not stage.long.list_checkpoints(start.work)
    write_json(start.work / IDENTITY, sealed({**identity.payload, CHECKED: checked}))
    return checked


def take_over(stage: Stage, start: StageStart, workspace: Workspace, say: Callable[[str], None]) -> Path:
    """Let a stage begin at the checkpoint of other work, or say why it cannot. Returns the work folder that it goes on
    from."""
    found, remarks = stage.long.find_continuation(start)
    if found is None:
        for remark in remarks:
            say(remark)
        return start.work
    with workspace.unless_locked(stage.name, found.key) as held:
        if held and found.checkpoint.exists():
            stage.long.adopt(found.checkpoint, start.work)
            say(found.reason)
            return workspace.checkpoints(found.key)
        say(f"{stage.noun} {found.key}, which this one could go on from, is under way elsewhere: not waiting for it")
    return start.work
