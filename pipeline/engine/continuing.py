"""Earlier trainings of a workspace that a longer or shorter one can go on from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipeline.atomic import read_sealed, remove, sealed, write_json
from pipeline.engine.artifacts import Identity, Workspace
from pipeline.engine.manifests import CHECKED, Manifest, describe_differences
from pipeline.errors import MissingInputError
from pipeline.training.checkpoints import checkpoint_of, list_checkpoints, step_of
from pipeline.training.extending import adopt, find_checkpoint
from pipeline.training.optimization_config import NEVER_END, EarlierTraining
from pipeline.training.schedules import check_phases, num_steps
from pipeline.training.train_config import LENGTHS, PATIENCE, TrainConfig

IDENTITY = "identity.json"
"""In a training's work folder, what it is a training of, and whether its inputs were compared with their digests
whenever they were read: a killed one has no manifest."""


REWARMING = ("rewarm_steps", "rewarm_from")


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
    newest = step_of(own[-1]) if own else 0
    problems: dict[int, str] = {}  # by the steps that re-warming could go on from: the most are told
    found: Continuation | None = None
    for key, payload in _but_for(workspace, identity, _without_length):
        earlier = section.model_copy(update=_length(payload))
        work = workspace.checkpoints(key)
        checkpoint = find_checkpoint(section, earlier, split["windows"], split["target_tokens"], work)
        if isinstance(checkpoint, str):
            instead, taken = "", _steps_to_rewarm(section, payload, _num_steps(section, pack), work)
            if taken:
                rewarm = rewarm_steps_for(section, _num_steps(section, pack) - taken)
                instead = f"; train.rewarm_steps={rewarm} goes on from its {taken:,} steps instead"
            problems.setdefault(taken, f"cannot go on from training {key}: {checkpoint}{instead}")
        elif step_of(checkpoint) > newest:
            newest = step_of(checkpoint)
            is_rewarmed = newest == max(section.rewarmed_at, default=None)
            rewarmed = f"re-warmed over {section.rewarm_steps} steps: " if is_rewarmed else ""
            told = describe_differences(payload, identity.payload)
            told = [line for line in told if not (is_rewarmed and line.startswith("train.rewarm_"))]
            found = Continuation(key, checkpoint, f"{rewarmed}continues training {key}: {'; '.join(told)}")
    if not newest and not problems:
        # On a machine of another kind `auto` comes to something else.
        for key, payload in _but_for(workspace, identity, _without_precision):
            saved = list_checkpoints(workspace.checkpoints(key))
            if saved and workspace.find("train", key)[0] is None:
                changes = "; ".join(describe_differences(payload, identity.payload))
                problems[0] = f"does not go on from training {key} at step {step_of(saved[-1])}: {changes}"
                break
    return found, () if newest or not problems else (problems[max(problems)],)


def find_rewarmed(
    section: TrainConfig, identity: Identity, workspace: Workspace, pack: Manifest
) -> list[EarlierTraining]:
    """The ends of the trainings that one goes on from which asks for re-warming and does not say where. A training that
    did so already is repeated; else it is the longest finished one that is shorter.

    Raises MissingInputError where there is none, ConfigError where it leaves too few steps.
    """
    steps = _num_steps(section, pack)
    trainings = [payload for _, payload in _but_for(workspace, identity, _without_length)]
    finished = [payload for payload in trainings if isinstance(payload.get("summary"), dict)]
    own = _length(identity.payload)
    for length in map(_length, [*finished, *trainings]):
        if length["rewarm_from"] and length == {**own, "rewarm_from": length["rewarm_from"]}:
            return list(length["rewarm_from"])
    taken = [(payload["summary"].get("steps"), payload) for payload in finished]
    shorter = [(found, payload) for found, payload in taken if isinstance(found, int) and 0 < found < steps]
    if not shorter:
        raise MissingInputError(
            f"train.rewarm_steps: the workspace has no finished training of fewer than {steps:,} steps that differs in "
            "its length alone, to go on from; remove it, or see what differs with descent status"
        )
    last, payload = max(shorter, key=lambda one: one[0])
    earlier = section.model_copy(update=_length(payload))
    scheduled = _num_steps(earlier, pack)
    end = EarlierTraining(steps=last, schedule_steps=scheduled, rewarm_steps=earlier.rewarm_steps)
    found = [*earlier.rewarm_from, end]
    check_phases(section.model_copy(update={"rewarm_from": found}), steps)
    return found


def check_rewarmable(section: TrainConfig, workspace: Workspace) -> None:
    """Raises MissingInputError where a training asks for re-warming in a workspace without any other."""
    if section.rewarm_steps is not None and not section.rewarm_from and not workspace.manifests("train"):
        raise MissingInputError(
            "train.rewarm_steps: the workspace has no finished training yet to go on from; remove it, or finish a "
            "shorter one first"
        )


def _steps_to_rewarm(section: TrainConfig, payload: Mapping[str, Any], steps: int, work: Path) -> int:
    """Steps of a finished training from which a training of so many steps could go on by re-warming; 0 for none."""
    taken = (payload.get("summary") or {}).get("steps")
    if section.rewarm_steps is not None or section.lr_scheduler_type in NEVER_END or not isinstance(taken, int):
        return 0
    return taken if taken < steps and checkpoint_of(work, taken).is_dir() else 0


def rewarm_steps_for(section: TrainConfig, steps: int) -> int:
    """Steps to re-warm over where so many are to come: as in the warm-up, and at most a tenth of them."""
    return max(1, min(section.warmup_steps or steps, steps // 10))


def _num_steps(section: TrainConfig, pack: Manifest) -> int:
    split = pack["summary"]["splits"]["train"]
    return num_steps(section, split["windows"], split["target_tokens"])


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
    for key, found in payloads.items():
        payload = identity.with_defaults(found)
        is_like = all(payload.get(name) == value for name, value in wanted.items() if name != "section")
        with suppress(ValidationError, TypeError):  # of a section that nobody could have written
            if key != identity.key and is_like and what_counts(payload) == what_counts(wanted):
                yield key, payload


def _length(payload: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that say how long a training is: how many steps, what it goes on from, and, where it may end early,
    how patient it is."""
    found = {name: payload["section"].get(name) for name in (*LENGTHS, PATIENCE, *REWARMING)}
    return {**found, "rewarm_from": [EarlierTraining.model_validate(one) for one in found["rewarm_from"] or ()]}


def _without_length(payload: Mapping[str, Any]) -> dict[str, Any]:
    """All other settings, and whether it may end early."""
    others = {name: value for name, value in payload["section"].items() if name not in _length(payload)}
    return others | {"ends_early": _length(payload)[PATIENCE] is not None}


def _without_precision(payload: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in payload["section"].items() if name != "mixed_precision"}
