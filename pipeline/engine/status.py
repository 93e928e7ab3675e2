"""What a workspace holds: its runs with their results and settings, and its artifacts by stage."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline.console.terminal_text import printable
from pipeline.engine.artifacts import Workspace
from pipeline.engine.differences import differing
from pipeline.engine.manifests import Manifest, is_key
from pipeline.engine.run_json import (
    IN_PROGRESS,
    REMEDY,
    UNREADABLE,
    earlier_results,
    key_of,
    long_part,
    outcome_of,
    placed_stages,
    read_run_json,
    result_in_words,
    shown_in_words,
    unreadable_runs,
    used_by,
    when,
)
from pipeline.errors import ConfigError, MissingInputError

MAX_RUNS = 30
"""Runs that are listed, the last ones, unless all are asked for."""

MAX_EARLIER = 3
"""Results of a run, the last ones, that are listed of those that others took the place of."""

MAX_SETTINGS, LONGEST_VALUE = 6, 40
"""Settings that are told of a run, and letters of a value."""

State = Mapping[str, Any]

_Sized = tuple[Path, Manifest]
"""An artifact's folder, and its manifest."""

ReadSettings = Callable[[Path], Mapping[str, Any]]
"""Gives the flattened settings of a run's config.yaml. Raises ConfigError or MissingInputError where it cannot."""


def format_status(workspace: Workspace, read_settings: ReadSettings, lists_all: bool = False) -> str:
    """Two tables as text: runs in the order in which they began, and artifacts. By default the last runs, and the
    artifacts of each stage together."""
    root = workspace.root
    paths = (root / "runs").iterdir() if (root / "runs").is_dir() else ()
    found = [(state, printable(path.name)) for path in paths if (state := read_run_json(path)) is not None]
    states = {folder: state for state, folder in sorted(found, key=lambda item: (float(item[0]["started"]), item[1]))}
    users: dict[tuple[str, str], list[str]] = {}
    for folder, state in states.items():
        kept = [(f"{folder}/{path.parent.name}/{path.name}", one) for path, one in earlier_results(workspace, folder)]
        for user, one in ((folder, state), *kept):
            for artifact in dict.fromkeys(used_by(one)):
                users.setdefault(artifact, []).append(user)
    shown = states if lists_all else dict([*states.items()][-MAX_RUNS:])
    lines = [f"workspace {root}", "", *_runs(workspace, shown, read_settings)]
    lines += [f"{printable(str(path))} {UNREADABLE}; {REMEDY}" for path in unreadable_runs(workspace)]
    if len(shown) < len(states):
        lines.append(f"and {len(states) - len(shown):,} before; --all lists them")
    return "\n".join([*lines, "", *(_artifacts if lists_all else _artifacts_by_stage)(workspace, users)])


def _runs(workspace: Workspace, states: Mapping[str, State], read_settings: ReadSettings) -> list[str]:
    width = max(map(len, states), default=0)
    lines = [f"{'run':<{width}}  {'outcome':<12} {'started':<17} result"]
    settings = _told_settings([_settings_of(workspace.run(folder), read_settings) for folder in states])
    for (folder, state), told in zip(states.items(), settings, strict=True):
        outcome = outcome_of(workspace, folder, state)
        result = result_in_words(workspace, state)
        lines.append(f"{folder:<{width}}  {outcome:<12} {when(state['started'])}  {result}".rstrip())
        lines += [f"  {printable(told)}"] if told else []
        lines += [f"  {told}" for told in ([] if result else _unfinished(workspace, state))]
        if told := _still_shown(workspace, folder, state):
            lines.append(f"  its folder still shows {told}")
        kept = earlier_results(workspace, folder)
        for path, earlier in kept[-MAX_EARLIER:]:
            lines.append(f"  earlier: {result_in_words(workspace, earlier) or 'swept'}, in {path}")
        if more := kept[:-MAX_EARLIER]:
            lines.append(f"  and {len(more):,} more in {more[0][0].parent}")
    return lines


def _still_shown(workspace: Workspace, folder: str, state: State) -> str:
    """What a run's folder shows that is not of the last attempt. Of a killed attempt the links to records remain."""
    shown, placed = state.get("shown"), placed_stages(state)
    part = long_part(workspace, placed)
    is_of_last = part is None or state["outcome"] == "done" or part[1] == key_of(state["stages"], part[0].name)
    if shown is None and is_of_last:
        return ""
    words = shown_in_words(workspace, shown, placed)
    for stage in workspace.resumable.values():
        links = [workspace.run(folder) / name for name in stage.run_folder.links]
        work = links[0].resolve().parent.name if links else ""
        if is_key(work) and (part is None or work != part[1]):
            *others, last = [f"{link.name}/" if link.is_dir() else link.name for link in links]
            names = f"{', '.join(others)} and {last}" if others else last
            words += f"; its {names} are of {stage.noun} {work}"
    return words


def _settings_of(folder: Path, read_settings: ReadSettings) -> Mapping[str, Any]:
    try:
        return read_settings(folder / "config.yaml")
    except (ConfigError, MissingInputError):
        return {}


def _told_settings(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """For each run the settings in which it differs from others, as on the command line. A value is left out if more
    than half of the runs have it."""
    known = [own for own in settings if own]
    told: list[list[str]] = [[] for _ in settings]
    for key in differing(known) if known else ():
        values = [json.dumps(own[key], ensure_ascii=False) if key in own else "" for own in settings]
        counts = Counter(values)
        for of_run, value in zip(told, values, strict=True):
            if value and 2 * counts[value] <= len(known):
                short = value if len(value) <= LONGEST_VALUE else f"{value[: LONGEST_VALUE - 1]}…"
                of_run.append(f"{key}={short}")
    return [
        "  ".join(of_run[:MAX_SETTINGS]) + (f"  and {more} more" if (more := len(of_run) - MAX_SETTINGS) > 0 else "")
        for of_run in told
    ]


def _artifacts_by_stage(workspace: Workspace, users: Mapping[tuple[str, str], list[str]]) -> list[str]:
    lines = [f"{'stage':<10} {'artifacts':>9} {'size':>13}"]
    used: list[_Sized] = []
    unused: list[_Sized] = []
    earlier: list[_Sized] = []
    of_all = _Sizes()
    for stage in workspace.stages:
        artifacts = [(workspace.artifact(stage.name, one["key"]), one) for one in workspace.manifests(stage.name)]
        for artifact in artifacts:
            runs = users.get((stage.name, artifact[1]["key"]), [])
            (unused if not runs else earlier if all("/" in run for run in runs) else used).append(artifact)
        if artifacts:
            lines.append(f"{stage.name:<10} {len(artifacts):>9} {of_all.add(artifacts):>13}")
    swept = _Sizes()
    swept.add(used)
    if unused:
        lines.append(f"{len(unused):,} of them, {swept.add(unused)}, are of no run now: see descent gc")
    if earlier:
        lines.append(
            f"{len(earlier):,} of them, {swept.add(earlier)}, are of earlier results alone: descent gc sweeps them"
        )
    return lines


def _artifacts(workspace: Workspace, users: Mapping[tuple[str, str], list[str]]) -> list[str]:
    lines = [f"{'stage':<10} {'key':<17} {'size':>10} {'age':>8} {'took':>9}  used by"]
    sizes = _Sizes()
    for stage in workspace.stages:
        for manifest in workspace.manifests(stage.name):
            size = sizes.add([(workspace.artifact(stage.name, manifest["key"]), manifest)])
            runs = ", ".join(users.get((stage.name, manifest["key"]), ["-"]))
            age = _age(time.time() - manifest["started"])
            taken = f"{manifest['seconds']:.1f} s"
            lines.append(f"{stage.name:<10} {manifest['key']:<17} {size:>10} {age:>8} {taken:>9}  {runs}")
    return lines


class _Sizes:
    """Sizes of artifacts. A file that several of them hold counts for the first."""

    def __init__(self) -> None:
        self._seen: set[tuple[int, int]] = set()

    def add(self, artifacts: Sequence[_Sized]) -> str:
        """Bytes of the files of artifacts that were not counted before, in words."""
        total = 0
        for folder, manifest in artifacts:
            for name, entry in manifest["files"].items():
                with suppress(OSError):  # a file that is gone
                    status = (folder / name).lstat()
                    if (status.st_dev, status.st_ino) not in self._seen:
                        self._seen.add((status.st_dev, status.st_ino))
                        total += entry["size"]
        return f"{total / 1e6:,.2f} MB"


def _unfinished(workspace: Workspace, state: State) -> list[str]:
    """How far a run came that is not whole, and what ended it, each in one line."""
    key, stages = str(state.get(IN_PROGRESS)), workspace.resumable
    begun = [stage for name, stage in stages.items() if name not in state["stages"]] if is_key(key) else []
    told = [stage.progress_line(workspace.checkpoints(key)) for stage in begun]
    return [printable(line) for line in (*told, str(state.get("message", ""))) if line]


def _age(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"
