"""A run of a workspace, finished or not, from its folder and its artifacts."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pipeline.config.loading import load_config
from pipeline.console.terminal_text import did_you_mean
from pipeline.engine.artifacts import Workspace
from pipeline.engine.differences import flatten
from pipeline.engine.manifests import Manifest, content_digest, input_digests, is_key, read_manifest
from pipeline.engine.run_json import IN_PROGRESS, earlier_results, outcome_of, read_run_json, shown_in_words
from pipeline.engine.work_folders import identity_of
from pipeline.errors import ConfigError, MissingInputError, StorageError
from pipeline.modeling.model_config import DEFAULT_TASK
from pipeline.plain_yaml import read_file

DEFAULTS = {"model.task": DEFAULT_TASK}
"""Settings that the comparison asks of every run."""

MAX_NAMES = 20
"""Runs that are named where one is not found."""


@dataclass(frozen=True)
class Run:
    """A run, finished or not."""

    state: dict[str, Any]
    """Its run.json."""
    outcome: str
    settings: dict[str, Any]
    """By dotted key."""
    runtime: set[str]
    """Keys of the settings that are in no identity."""
    manifests: dict[str, Manifest]
    identities: dict[str, dict[str, Any]]
    """The manifests, and the identity of a training in progress."""
    folders: dict[str, Path]
    """Of its artifacts, and of a training in progress the work folder."""

    @property
    def records(self) -> Path | None:
        """Where its metrics.jsonl is, if there is one."""
        return self.folders["train"] / "metrics.jsonl" if "train" in self.folders else None

    def summary(self, stage: str) -> dict[str, Any]:
        """What a stage counted; empty when its artifact is not there."""
        return self.manifests.get(stage, {}).get("summary") or {}

    def digest(self, stage: str, part: str = "") -> str | None:
        """Digest of an artifact, or of a folder in it; None when it is not there."""
        manifest = self.manifests.get(stage)
        return content_digest(manifest["files"], part) if manifest else None

    def key(self, stage: str) -> str | None:
        """Key of the stage's artifact, or of the training in progress."""
        if stage in self.state["stages"]:
            return str(self.state["stages"][stage]["key"])
        return self.state[IN_PROGRESS] if stage in self.identities else None


def open_run(workspace: Workspace, name: str) -> Run:
    """The run of that name, as its folder shows it. An earlier result is called NAME/earlier/TIME.

    Raises MissingInputError when there is no such run, StorageError when what it left cannot be read.
    """
    states = {folder.name: read_run_json(folder) for folder in sorted(workspace.root.glob("runs/*"))}
    earlier = {
        f"{run}/{folder.parent.name}/{folder.name}": found
        for run in states
        for folder, found in earlier_results(workspace, run)
    }
    state = states.get(name) or earlier.get(name)
    if state is None and name in states and os.path.lexists(workspace.run(name) / "run.json"):
        raise StorageError(f"{workspace.run(name) / 'run.json'} cannot be read; run it again, or remove its folder")
    if state is None:
        known = [other for other, found in states.items() if found]
        lists_runs = None if 0 < len(known) <= MAX_NAMES else "; descent status lists the runs"
        hint = did_you_mean(name, known, lists_runs)
        raise MissingInputError(f"{workspace.root}: no run is called {name!r}{hint}")
    last = outcome_of(workspace, name, state)
    if not (shown := state.get("shown")):
        return _opened(workspace, {**state, "name": name}, last, workspace.root / "runs" / name / "config.yaml")
    with TemporaryDirectory() as folder:
        path = Path(folder) / "config.yaml"
        path.write_text(shown["config"], encoding="utf-8")
        told = shown_in_words(workspace, shown, {})
        remark = f"compared is what its folder shows, {told}; the last attempt: {last}"
        message = f"{remark}. {state['message']}" if state.get("message") else remark
        return _opened(workspace, {"outcome": "done", "message": message, **shown, "name": name}, "done", path)


def open_attempt(workspace: Workspace, name: str) -> Run | None:
    """The last attempt of the run of that name, whatever its folder shows; None where there is none."""
    state = read_run_json(workspace.run(name))
    if state is None:
        return None
    return _opened(workspace, state, outcome_of(workspace, name, state), workspace.run(name) / "config.yaml")


def _opened(workspace: Workspace, state: dict[str, Any], outcome: str, config: Path) -> Run:
    settings, runtime = read_settings(config)
    folders = {stage: workspace.artifact(stage, entry["key"]) for stage, entry in state["stages"].items()}
    found = {stage: read_manifest(folder) for stage, folder in folders.items()}
    manifests = {stage: manifest for stage, manifest in found.items() if manifest is not None}
    training = _training_in_progress(workspace, state, manifests, settings)
    if training is not None:
        folders["train"] = workspace.checkpoints(state[IN_PROGRESS])
    return Run(
        state=state,
        outcome=outcome,
        settings=settings,
        runtime=runtime,
        manifests=manifests,
        identities=manifests | ({"train": training} if training else {}),
        folders=folders,
    )


def read_settings(path: Path) -> tuple[dict[str, Any], set[str]]:
    """The settings of a run by dotted key, and which of them are in no identity. That is not known, and the set empty,
    where the configuration is no longer valid."""
    try:
        config = load_config(path, sections=("run",))
    except ConfigError:
        values, _ = read_file(path)
        return DEFAULTS | flatten(values), set()
    values = config.values()
    settings = DEFAULTS | flatten(values)
    sections = {name: getattr(config, name) for name in values}
    identified = flatten({name: section.identity() for name, section in sections.items()})
    return settings, settings.keys() - identified.keys()


def _training_in_progress(
    workspace: Workspace, state: Mapping[str, Any], manifests: Mapping[str, Manifest], settings: Mapping[str, Any]
) -> dict[str, Any] | None:
    """The identity of the training that a run has begun and not completed. None where run.json names another training,
    which an earlier run of the same name has begun."""
    stage, key = workspace.stage("train"), str(state.get(IN_PROGRESS))
    if "train" in state["stages"] or not is_key(key) or not set(stage.upstream) <= manifests.keys():
        return None
    identity = identity_of(workspace.checkpoints(key))
    if identity is None or identity.get("inputs") != input_digests(stage, manifests):
        return None
    own = flatten(identity["section"], "train") | {"run.seed": identity["seed"]}
    return identity if all(settings.get(name) == value for name, value in own.items()) else None


def have_same(runs: Sequence[Run], stage: str, part: str = "") -> bool | None:
    """Whether all have the same content; None when that is not known."""
    digests = {run.digest(stage, part) for run in runs}
    if len(digests - {None}) > 1:
        return False
    return None if None in digests else True
