"""Earlier trainings of a workspace that a longer or shorter one can go on from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.artifacts import Identity, Workspace
from pipeline.atomic import read_sealed, remove, sealed, write_json
from pipeline.config.train import LENGTHS, PATIENCE, TrainConfig
from pipeline.manifests import CHECKED, Manifest, describe_differences
from pipeline.training.checkpoints import list_checkpoints, step_of
from pipeline.training.extending import adopt, find_checkpoint

IDENTITY = "identity.json"
"""In a training's work folder, what it is a training of, and whether its inputs were compared with their digests
whenever they were read: a killed one has no manifest."""


@dataclass(frozen=True)
class Continuation:
    """A checkpoint of another training, with its key, to go on from."""

    key: str
    checkpoint: Path
    reason: str

    @property
    def step(self) -> int:
        return step_of(self.checkpoint)


def find_continuation(
    section: TrainConfig, identity: Identity, workspace: Workspace, pack: Manifest
) -> tuple[Continuation | None, tuple[str, ...]]:
    """The newest checkpoint of a training that differs in its length alone, where it is newer than the training's own;
    else None, and why where there is such a training, or one that was begun in another precision."""
    split = pack["summary"]["splits"]["train"]
    own = list_checkpoints(workspace.checkpoints(identity.key))
    newest, problems = step_of(own[-1]) if own else 0, []
    found: Continuation | None = None
    for key, payload in _but_for(workspace, identity, _without_length):
        earlier = section.model_copy(update=_length(payload))
        work = workspace.checkpoints(key)
        checkpoint = find_checkpoint(section, earlier, split["windows"], split["target_tokens"], work)
        if isinstance(checkpoint, str):
            problems.append(f"cannot go on from training {key}: {checkpoint}")
        elif step_of(checkpoint) > newest:
            changes = "; ".join(describe_differences(payload, identity.payload))
            newest, found = step_of(checkpoint), Continuation(key, checkpoint, f"continues training {key}: {changes}")
    if not newest and not problems:
        # On a machine of another kind `auto` comes to something else.
        for key, payload in _but_for(workspace, identity, _without_precision):
            saved = list_checkpoints(workspace.checkpoints(key))
            if saved and workspace.find("train", key)[0] is None:
                changes = "; ".join(describe_differences(payload, identity.payload))
                problems.append(f"does not go on from training {key} at step {step_of(saved[-1])}: {changes}")
    return found, () if newest else tuple(problems[:1])


def begin_work(
    section: TrainConfig,
    identity: Identity,
    workspace: Workspace,
    pack: Manifest,
    say: Callable[[str], None],
    forced: bool,
) -> bool:
    """Make the work folder of a training whose lock is held: empty where it is forced, else with what is there or what
    another training left that it can go on from. Returns whether all inputs of all that is there were checked."""
    work = workspace.checkpoints(identity.key)
    if forced:
        remove(work)
    work.mkdir(parents=True, exist_ok=True)
    origin = work if forced else take_over(section, identity, workspace, pack, say)
    checked = is_checked(origin) or not list_checkpoints(work)
    write_json(work / IDENTITY, sealed({**identity.payload, CHECKED: checked}))
    return checked


def is_checked(work: Path) -> bool:
    """Whether all inputs of a training in progress were compared with their digests."""
    return (read_sealed(work / IDENTITY) or {}).get(CHECKED) is True


def take_over(
    section: TrainConfig, identity: Identity, workspace: Workspace, pack: Manifest, say: Callable[[str], None]
) -> Path:
    """Let a training begin at the checkpoint of another, or say why it cannot. Returns the work folder of the training
    whose steps it goes on from."""
    work = workspace.checkpoints(identity.key)
    found, why_not = find_continuation(section, identity, workspace, pack)
    if found is None:
        for reason in why_not:
            say(reason)
        return work
    with workspace.unless_locked("train", found.key) as held:
        if held and found.checkpoint.is_dir():
            adopt(found.checkpoint, work)
            say(found.reason)
            return found.checkpoint.parent
        say(f"training {found.key}, which this one could go on from, is under way elsewhere: not waiting for it")
    return work


def _but_for(
    workspace: Workspace, identity: Identity, what_counts: Callable[[Mapping[str, Any]], dict[str, Any]]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Keys and identities of the trainings in a workspace, finished or not, that differ in settings alone that do not
    count."""
    payloads: dict[str, dict[str, Any]] = {manifest["key"]: manifest for manifest in workspace.manifests("train")}
    for folder in sorted(workspace.root.glob("checkpoints/*")):
        payload = read_sealed(folder / IDENTITY)
        if payload is not None and isinstance(payload.get("section"), dict) and list_checkpoints(folder):
            payloads.setdefault(folder.name, payload)
    wanted = identity.payload
    for key, payload in payloads.items():
        is_like = all(payload.get(name) == value for name, value in wanted.items() if name != "section")
        if key != identity.key and is_like and what_counts(payload) == what_counts(wanted):
            yield key, payload


def _length(payload: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that say how long a training is: how many steps, and, where it may end early, how patient it is."""
    return {name: payload["section"].get(name) for name in (*LENGTHS, PATIENCE)}


def _without_length(payload: Mapping[str, Any]) -> dict[str, Any]:
    """All other settings, and whether it may end early."""
    others = {name: value for name, value in payload["section"].items() if name not in _length(payload)}
    return others | {"ends_early": _length(payload)[PATIENCE] is not None}


def _without_precision(payload: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in payload["section"].items() if name != "mixed_precision"}
