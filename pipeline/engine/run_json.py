"""What is in run.json: how a run ended, which artifacts it uses, and whose result its folder shows."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline import atomic
from pipeline.engine.artifacts import Workspace
from pipeline.engine.manifests import is_key, read_manifest
from pipeline.engine.stage import Stage
from pipeline.errors import StorageError

LATEST = 253_402_214_400
"""Seconds since 1970 up to which every time zone has a date: 9999-12-31, 0:00 UTC."""

UNREADABLE, REMEDY = "is missing or cannot be read", "run it again, or remove its folder"
IN_PROGRESS = "training"
"""Key of run.json under which the key of unfinished work stands, by its name in older versions."""

UNKNOWN = "nothing tells of which {} it is; run again: it is put there anew"
"""Of copies, with the noun of their stage."""


def read_run_json(folder: Path) -> dict[str, Any] | None:
    """A run's run.json. None when it is missing, altered or cannot be read."""
    try:
        value = atomic.read_sealed(folder / "run.json")
        if value is None:
            return None
        whole = isinstance(value["name"], str) and isinstance(value["outcome"], str)
        whole = whole and _is_time(value["started"]) and _is_time(value.get("finished", value["started"]))
        if shown := value.get("shown"):
            whole = whole and isinstance(shown["config"], str) and bool(shown["stages"])
            whole = whole and all(_is_time(shown[name]) for name in ("started", "finished"))
        return value if whole and all(stage.isidentifier() and is_key(key) for stage, key in used_by(value)) else None
    except (StorageError, TypeError, KeyError, AttributeError):
        return None


def _is_time(value: Any) -> bool:
    """Whether a value is seconds since 1970 that calendars know."""
    return isinstance(value, (int, float)) and 0 <= value < LATEST


def unreadable_runs(workspace: Workspace) -> list[Path]:
    """Paths of run.json files that cannot be read. Also of those that are missing, unless the folder looks like a run
    that was killed while it started."""
    folders = sorted(path for path in workspace.root.glob("runs/*") if path.is_dir())
    begun = [path for path in folders if any(not _is_of_a_beginning(name) for name in os.listdir(path))]
    return [path / "run.json" for path in begun if read_run_json(path) is None]


def _is_of_a_beginning(name: str) -> bool:
    return name == "config.yaml" or name.startswith(atomic.TEMPORARY_PREFIX)


def used_by(state: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Stages and keys of the artifacts that a run.json marks as in use: those of the last attempt, of what the folder
    shows and holds, and of earlier attempts."""
    shown = state.get("shown", {}).get("stages", {})
    parts = (state["stages"], state.get("earlier", {}), shown, state.get("placed", {}))
    return [(stage, entry["key"]) for part in parts for stage, entry in part.items()]


def shown_stages(state: Mapping[str, Any]) -> dict[str, Any]:
    """The stages of what the folder of a run shows."""
    return dict(state.get("shown", state)["stages"])


def is_shown(state: Mapping[str, Any]) -> bool:
    """Whether the folder shows `shown_stages`. It need not after a failed run."""
    return "shown" in state or state.get("outcome") == "done"


def placed_stages(state: Mapping[str, Any]) -> dict[str, Any]:
    """The stages that the copies in a run's folder are of, where that is known."""
    return dict(state["placed"]) if "placed" in state else shown_stages(state) if is_shown(state) else {}


def earlier_results(workspace: Workspace, name: str) -> list[tuple[Path, dict[str, Any]]]:
    """Results of a run that were replaced, oldest first: their folders, and their run.json."""
    paths = [path for path in workspace.earlier(name).glob("*") if not path.name.startswith(atomic.TEMPORARY_PREFIX)]
    found = [(path, state) for path in sorted(paths) if (state := read_run_json(path)) is not None]
    return [(path, state) for path, state in found if isinstance(state.get("finished"), float)]


def shown_by(workspace: Workspace, state: Mapping[str, Any], folder: Path) -> dict[str, Any] | None:
    """What a folder shows at the beginning of an attempt, by its run.json: the result of a whole run."""
    if "shown" in state:
        return dict(state["shown"])
    if not is_whole_run(workspace, state):
        return None
    try:
        config = (folder / "config.yaml").read_text(encoding="utf-8")
    except (OSError, ValueError):
        config = ""
    finished = state.get("finished", state["started"])
    return {"started": state["started"], "finished": finished, "config": config, "stages": state["stages"]}


def headline_stages(workspace: Workspace) -> list[Stage]:
    """The stages that make up the result of a run."""
    return [stage for stage in workspace.stages if stage.headline is not None]


def parts_of_result(workspace: Workspace) -> list[str]:
    """The stages whose artifacts a whole result needs: the headline stages, and the last, which completes a run."""
    return list(dict.fromkeys(stage.name for stage in (*headline_stages(workspace), workspace.stages[-1])))


def is_whole_run(workspace: Workspace, state: Mapping[str, Any]) -> bool:
    """Whether a run.json tells of a whole run."""
    return state.get("outcome") == "done" and {*parts_of_result(workspace)} <= state["stages"].keys()


def is_same(workspace: Workspace, stages: Mapping[str, Any], others: Mapping[str, Any]) -> bool:
    """Whether two results come from the same training and evaluation. Their reports may still differ, as in a title."""
    return all(key_of(stages, stage.name) == key_of(others, stage.name) for stage in headline_stages(workspace))


def key_of(stages: Mapping[str, Any], name: str) -> str | None:
    """Key of a stage's artifact among the stages of a run.json; None when it has none."""
    entry = stages.get(name)
    return str(entry["key"]) if entry else None


def shown_in_words(workspace: Workspace, shown: Mapping[str, Any] | None, stages: Mapping[str, Any]) -> str:
    """What a folder shows that is not of the last attempt: a whole result, or, if there is none yet, the long stage
    among `stages`. "" where there is neither."""
    if shown is not None:
        return f"the result of {when(shown['finished'])}: {result_in_words(workspace, shown)}"
    if (part := long_part(workspace, stages)) is None:
        return ""
    stage, key = part
    manifest = read_manifest(workspace.artifact(stage.name, key))
    told = stage.headline(manifest["summary"]) if manifest and stage.headline else ""
    return f"{stage.noun} {key}" + (f" of {told}" if told else "")


def long_part(workspace: Workspace, stages: Mapping[str, Any]) -> tuple[Stage, str] | None:
    """The last long stage among the stages of a run.json, with its key; None where there is none."""
    found = [(stage, key) for stage in workspace.resumable.values() if (key := key_of(stages, stage.name))]
    return found[-1] if found else None


def when(seconds: float) -> str:
    """A time for people."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def result_in_words(workspace: Workspace, state: Mapping[str, Any]) -> str:
    """The figures of a whole run, those of the last stage first. "" where its artifacts are missing."""
    told = []
    for stage in reversed(headline_stages(workspace)):
        manifest = read_manifest(workspace.artifact(stage.name, key_of(state["stages"], stage.name) or "none"))
        if manifest is None or stage.headline is None:
            return ""
        told.append(stage.headline(manifest["summary"]))
    return " after ".join(told)


def outcome_of(workspace: Workspace, name: str, state: Mapping[str, Any]) -> str:
    """How a run ended, from its run.json. A killed run still says `running` there."""
    is_running = state["outcome"] == "running" and workspace.is_locked("run", name)
    return "killed" if state["outcome"] == "running" and not is_running else str(state["outcome"])
