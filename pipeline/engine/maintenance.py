"""Care of a workspace: find what is broken, and sweep what no run uses."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath

from pipeline.atomic import TEMPORARY_PREFIX, digest_file, num_bytes, place_aside, remove
from pipeline.engine.artifacts import Workspace
from pipeline.engine.checkpointing_stage import Checkpointing
from pipeline.engine.lineage import Artifact, Lineage, with_ancestors
from pipeline.engine.manifests import damaged_records, find_damage, is_key, leave_out
from pipeline.engine.published_copies import (
    CARD,
    Differences,
    Files,
    compare,
    differences_in_words,
    folders_of,
    forbidden_names_of,
    mirror,
    shown_files,
    without_cards,
)
from pipeline.engine.run_json import (
    IN_PROGRESS,
    REMEDY,
    UNKNOWN,
    UNREADABLE,
    earlier_results,
    placed_stages,
    read_run_json,
    result_in_words,
    shown_stages,
    unreadable_runs,
    used_by,
)
from pipeline.engine.stage import Stage
from pipeline.engine.work_folders import works
from pipeline.errors import StorageError
from pipeline.integrity import MANIFEST
from pipeline.progress import Progress

DOUBTFUL = "may have been made from damage, by a version that did not compare what it read"

STAYS = "it stays in use until it is verified where it can be written"
FOLDERS = ("artifacts", "checkpoints", "locks", "runs")


def verify(workspace: Workspace, progress: Progress) -> list[str]:
    """Read every file of every artifact and checkpoint again. Set broken ones aside, and what may have been made from
    them.

    Returns a line for each: what is wrong, and where it went or why it could not be moved. The next run builds again
    what it needs of them. Whatever is being built just now is left alone.
    """
    workspace.check_inside(*FOLDERS, *(f"artifacts/{stage.name}" for stage in workspace.stages))
    workspace.check_inside(*(f"checkpoints/{work.name}" for work in workspace.root.glob("checkpoints/*")))
    artifacts, checkpoints = list(_artifacts(workspace)), list(_checkpoints(workspace))
    found = [f"{path} {UNREADABLE}; {REMEDY}" for path in unreadable_runs(workspace)]
    lineage, users = Lineage(workspace), _users(workspace)
    damaged = []
    with progress.bar("reading", total=len(artifacts) + len(checkpoints), unit="folders") as bar:
        for folder in artifacts:
            if _mend(workspace, folder.parent.name, folder.name, partial(_problem, folder)):
                damaged.append(folder)
            bar.update()
        for stage, folder in checkpoints:
            check = partial(_check_checkpoint, stage.long, folder, "")
            found += _mend(workspace, stage.name, folder.parent.name, check)
            bar.update()
    # What was made from damage goes first: if this is interrupted, the damage is still there to be found again.
    doubtful, suspects = lineage.doubtful((folder.parent.name, folder.name) for folder in damaged)
    for stage, work in suspects:
        for folder in stage.long.list_checkpoints(work):
            check = partial(_check_checkpoint, stage.long, folder, DOUBTFUL)
            found += _mend(workspace, stage.name, work.name, check)
    folders = [(workspace.artifact(*artifact), DOUBTFUL) for artifact in doubtful] + [(one, "") for one in damaged]
    for folder, doubt in folders:
        artifact = (folder.parent.name, folder.name)
        check = partial(_check_artifact, workspace, folder, doubt, users.get(artifact, []))
        found += _mend(workspace, *artifact, check)
    return found + [line for name in _run_names(workspace) for line in _verify_folders(workspace, name, progress)]


def _verify_folders(workspace: Workspace, name: str, progress: Progress) -> list[str]:
    """Compare the copies in a run's folder with what the run made, and put back what differs. What was edited on
    purpose stays; `progress` says so."""
    run, state = workspace.run(name), read_run_json(workspace.run(name))
    if state is None or workspace.is_locked("run", name):
        return []
    placed, lines = placed_stages(state), []
    there = [run / part for part in folders_of(workspace.stages) if (run / part).exists()]
    if not placed and there:
        noun = next(stage.noun for stage in workspace.stages if stage.run_folder.copies)
        return [f"{there[0]}: {UNKNOWN.format(noun)}"]
    shown, forbidden_names = shown_files(workspace, placed), forbidden_names_of(workspace.stages)
    if not without_cards(shown):  # the artifact is set aside, or gone: a run makes it, and these folders, anew
        return []
    for part, files in ((part, files) for part, files in shown.items() if files):
        folder = run / part
        found = compare(files, folder, files, digest_file, forbidden_names)
        if found.wrong or found.surplus:
            found, told = _put_back(workspace, name, folder, files, forbidden_names, found)
            lines += told
        if found.card_was_edited:
            progress.say(f"{folder / CARD} was edited and stays so")
        for own in dict.fromkeys(PurePosixPath(one).parts[0] for one in found.further):
            progress.say(f"{folder / own} is none of the run's files and stays where it is")
    return lines


def _put_back(
    workspace: Workspace, run: str, folder: Path, files: Files, forbidden_names: Sequence[str], found: Differences
) -> tuple[Differences, list[str]]:
    """Mend a folder of copies unless its run goes on. Returns how it differed, and what to say of that."""
    try:
        workspace.check_inside(f"runs/{run}")
        with workspace.unless_locked("run", run) as held:
            if not held:
                return found, []
            found = mirror(files, folder, files, digest_file, forbidden_names)
    except OSError as error:
        why = f"cannot be mended ({error.strerror}); {STAYS}"
        wrong = sorted({*found.wrong, *found.surplus})
        return found, [f"{folder / one} is not as the run made it: {why}" for one in wrong]
    return found, differences_in_words(replace(found, card_was_edited=False), folder, was_shown=True)


def _mend(workspace: Workspace, stage: str, key: str, check: Callable[[bool], str]) -> list[str]:
    """What `check` finds, after it has set the folder aside. A builder may be changing the folder meanwhile, so a
    problem counts only if it is still there while the lock is held."""
    if not check(False):
        return []
    try:
        with workspace.unless_locked(stage, key) as held:
            problem = check(True) if held else ""
    except OSError as error:  # a workspace that may only be looked at
        found = "" if workspace.is_locked(stage, key) else check(False)
        problem = f"{found}: cannot be set aside ({error.strerror}); {STAYS}" if found else ""
    return [problem] if problem else []


def _problem(folder: Path, sets_aside: bool = False) -> str:
    return find_damage(folder) if folder.exists() or folder.is_symlink() else ""


def _check_artifact(workspace: Workspace, folder: Path, doubt: str, runs: Sequence[str], sets_aside: bool) -> str:
    problem = f"the artifact {folder} {doubt}" if doubt and folder.exists() else _problem(folder)
    if problem and sets_aside and not doubt and (records := _dear_records(workspace, folder)):
        return _leave_out(workspace, folder, records)
    if problem and sets_aside:
        shown = f"; run {', '.join(runs)} again, which showed it" if runs else ""
        return f"{problem}: moved to {workspace.set_aside(folder.parent.name, folder.name)}{shown}"
    return problem


def _dear_records(workspace: Workspace, folder: Path) -> dict[str, str]:
    """What is wrong with the records of an artifact that is worth keeping without them: all else of it is whole, its
    stage is a long one, and no checkpoint is left. With a checkpoint the next run makes it again in moments, records
    included."""
    stage = workspace.resumable.get(folder.parent.name)
    is_dear = stage is not None and not stage.long.list_checkpoints(workspace.checkpoints(folder.name))
    return damaged_records(folder) if is_dear else {}


def _leave_out(workspace: Workspace, folder: Path, records: Mapping[str, str]) -> str:
    """Set damaged records aside and leave the artifact, with a warning, without them."""
    aside = place_aside(folder)
    for name in records:
        if os.path.lexists(folder / name):
            (aside / name).parent.mkdir(parents=True, exist_ok=True)
            os.rename(folder / name, aside / name)
    lost = f"{', '.join(sorted(records))} was damaged and is left out of reports"
    leave_out(folder, records, lost)
    noun = workspace.stage(folder.parent.name).noun
    return f"{next(iter(records.values()))}: moved to {aside}; its {noun} is whole and stays, without these records"


def _check_checkpoint(kind: Checkpointing, folder: Path, doubt: str, sets_aside: bool) -> str:
    if not folder.exists():
        return ""
    broken = kind.problem_of(folder) if not doubt else None
    if not (wrong := doubt or (f"is broken ({broken})" if broken else "")):
        return ""
    problem = f"the checkpoint {folder} {wrong}"
    return f"{problem}: moved to {kind.set_aside(folder)}" if sets_aside else problem


@dataclass(frozen=True)
class Unused:
    """A folder that no run needs, why, and the bytes that are free when it and those listed before it are gone."""

    folder: Path
    reason: str
    num_bytes: int


def find_unused(workspace: Workspace) -> list[Unused]:
    """What may be deleted: artifacts that no run.json names, those set aside, leftovers of killed builders, and
    checkpoints of what is complete or what no run is at. Whatever is being built is left out. So are artifacts that
    came since a run in progress began: it may be about to use them.

    Raises StorageError when what a run uses cannot be known, or where a folder is a link out of the workspace.
    """
    workspace.check_inside(*FOLDERS, *(f"artifacts/{stage.name}" for stage in workspace.stages))
    for path in unreadable_runs(workspace):
        raise StorageError(f"{path} {UNREADABLE}, so what it uses is not known; {REMEDY}")
    runs = _run_names(workspace)
    workspace.check_inside(*(f"runs/{name}{below}" for name in runs for below in ("", "/earlier")))
    used, in_progress = _marked(workspace)
    overwritten, horizon = _overwritten(workspace, runs), _began(workspace)
    unused = [*_unused_results(workspace, runs), *_unused_artifacts(workspace, used, overwritten, horizon)]
    unused += _unused_work(workspace, in_progress)
    swept = {folder for folder, _ in unused}
    leftovers = (path for path in _leftovers(workspace) if not swept & {path, *path.parents})
    unused += [(path, "was left by a killed run") for path in leftovers]
    links: Counter[tuple[int, int]] = Counter()
    return [Unused(folder, reason, num_bytes(folder, links)) for folder, reason in unused]


def _unused_results(workspace: Workspace, runs: Sequence[str]) -> Iterator[tuple[Path, str]]:
    """Folders in `earlier/` of runs that are not in progress."""
    for name in (one for one in runs if not workspace.is_locked("run", one)):
        for path, state in earlier_results(workspace, name):
            reason = f"{result_in_words(workspace, state)}: an earlier result of run {name}"
            yield path, reason


def _unused_artifacts(
    workspace: Workspace, used: Container[Artifact], overwritten: Mapping[Artifact, str], horizon: float
) -> Iterator[tuple[Path, str]]:
    """Artifacts older than `horizon` that are not `used`, those set aside, and leftovers, unless somebody builds."""
    for folder in sorted(workspace.root.glob("artifacts/*/*")):
        artifact = (stage, name) = (folder.parent.name, folder.name)
        if is_key(name) and artifact not in used and folder.lstat().st_ctime < horizon:
            key, reason = name, overwritten.get(artifact, "no run uses it")
        elif name.startswith("aside-"):
            key, reason = name.split("-")[1], "was set aside"
        elif name.startswith(TEMPORARY_PREFIX):
            key, reason = name.removeprefix(TEMPORARY_PREFIX).split("-")[0], "was left by a killed run"
        else:
            continue
        if not workspace.is_locked(stage, key):
            yield folder, reason


def _unused_work(workspace: Workspace, in_progress: Container[str]) -> Iterator[tuple[Path, str]]:
    """Work folders of what is complete, or what no run is at."""
    for stage, folder in works(workspace):
        complete = (workspace.artifact(stage.name, folder.name) / MANIFEST).exists()
        if (complete or folder.name not in in_progress) and not workspace.is_locked(stage.name, folder.name):
            done = f"its {stage.noun} is complete: only a longer one could go on from it"
            reason = done if complete else f"no run is at this {stage.noun}"
            yield folder, reason


def delete(unused: list[Unused]) -> None:
    """Delete folders so that none is ever taken for a whole artifact."""
    for item in unused:
        doomed = item.folder.with_name(f"{TEMPORARY_PREFIX}{item.folder.name}-doomed")
        remove(doomed)
        os.rename(item.folder, doomed)
        remove(doomed)


def _marked(workspace: Workspace) -> tuple[set[Artifact], set[str]]:
    """Artifacts that runs name, with all that they were made from, and the keys of what is in progress."""
    states = [state for folder in workspace.root.glob("runs/*") if (state := read_run_json(folder)) is not None]
    in_progress = {str(state.get(IN_PROGRESS)) for state in states}
    used = [artifact for state in states for artifact in used_by(state)]
    return set(with_ancestors(workspace, used)), in_progress


def _overwritten(workspace: Workspace, runs: Sequence[str]) -> dict[Artifact, str]:
    """Of the artifacts of results that others took the place of, which run's they are."""
    return {
        artifact: f"of an earlier result of run {name}"
        for name in runs
        for _, state in earlier_results(workspace, name)
        for artifact in with_ancestors(workspace, used_by(state))
    }


def _leftovers(workspace: Workspace) -> Iterator[Path]:
    """Temporary files and notes of holders beside all locks that nobody holds."""
    for lock in sorted(workspace.root.glob("locks/*.lock")):
        stage, _, key = lock.stem.partition("-")
        if not workspace.is_locked(stage, key):
            yield from workspace.leftovers(stage, key)


def _users(workspace: Workspace) -> dict[Artifact, list[str]]:
    """Names of the runs that show an artifact."""
    users: dict[Artifact, list[str]] = {}
    for folder in sorted(workspace.root.glob("runs/*")):
        for stage, entry in shown_stages(read_run_json(folder) or {"stages": {}}).items():
            users.setdefault((stage, entry["key"]), []).append(folder.name)
    return users


def _artifacts(workspace: Workspace) -> Iterator[Path]:
    yield from (path for path in sorted(workspace.root.glob("artifacts/*/*")) if is_key(path.name))


def _checkpoints(workspace: Workspace) -> Iterator[tuple[Stage, Path]]:
    for stage, work in works(workspace):
        if not workspace.is_locked(stage.name, work.name):
            yield from ((stage, folder) for folder in stage.long.list_checkpoints(work))


def _run_names(workspace: Workspace) -> list[str]:
    return sorted(folder.name for folder in workspace.root.glob("runs/*"))


def _began(workspace: Workspace) -> float:
    """When the oldest run that is in progress began; infinity when none is."""
    runs = [folder for folder in workspace.root.glob("runs/*") if workspace.is_locked("run", folder.name)]
    return min((float(state["started"]) for state in map(read_run_json, runs) if state), default=math.inf)
