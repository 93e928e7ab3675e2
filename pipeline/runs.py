"""A run's folder: a view of its artifacts that is rebuilt whenever they change."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

from pipeline import atomic
from pipeline.artifacts import Manifest, Workspace
from pipeline.config import Config
from pipeline.errors import exit_code


class RunView:
    """`<workspace>/runs/<name>/`: config.yaml, run.json, metrics.jsonl, tensorboard/, model/ and report.html.

    Files are hard links into artifacts (copies where the file system has none), so that `model/` can be
    copied or uploaded like any folder; what is live during training is a symbolic link.
    """

    def __init__(self, workspace: Workspace, config: Config) -> None:
        self._workspace = workspace
        self.folder = workspace.run(config.run.name)
        self._stages: dict[str, dict[str, Any]] = {}
        self._state: dict[str, Any] = {"name": config.run.name, "outcome": "running", "started": round(time.time(), 3)}

    @classmethod
    def open(cls, workspace: Workspace, config: Config) -> RunView:
        """Create the folder, or take up the one of an earlier run of that name."""
        import yaml

        view = cls(workspace, config)
        view.folder.mkdir(parents=True, exist_ok=True)
        resolved = yaml.safe_dump(config.model_dump(mode="json", by_alias=True), sort_keys=False, allow_unicode=True)
        atomic.write_bytes(view.folder / "config.yaml", resolved.encode())
        earlier = read_run(view.folder)
        if earlier:
            view._stages = dict(earlier["stages"])
            view._state["linked"] = earlier.get("linked")
        return view

    def record(self, stage: str, manifest: Manifest, outcome: str) -> None:
        """Note a stage's artifact; it is what keeps the artifact from being swept."""
        entry = {"key": manifest["key"], "outcome": outcome, "seconds": manifest["seconds"]}
        self._stages[stage] = entry
        if outcome == "built":
            self._write()

    def show_progress_of(self, work: Path) -> None:
        """Point tensorboard/ and metrics.jsonl at a training in progress, so that both can be watched."""
        for name in ("tensorboard", "metrics.jsonl"):
            _symlink(self.folder / name, work / name)
        self._write()

    def finish(self, outcome: str, error: BaseException | None = None) -> None:
        """Write the outcome, and link what the stages made."""
        self._state["outcome"] = outcome
        self._state["finished"] = round(time.time(), 3)
        if error is not None:
            self._state["message"] = str(error) or type(error).__name__
            self._state["exit_code"] = exit_code(error)
        if outcome == "done":
            self._state["exit_code"] = 0
            self._link_artifacts()
        self._write()

    def _write(self) -> None:
        atomic.write_json(self.folder / "run.json", {**self._state, "stages": self._stages})

    def _link_artifacts(self) -> None:
        keys = {stage: entry["key"] for stage, entry in self._stages.items() if stage in ("train", "report")}
        if self._state.get("linked") == keys and all(
            (self.folder / name).exists() for name in ("report.html", "model")
        ):
            return
        if "train" in keys:
            train = self._workspace.artifact("train", keys["train"])
            for name in ("tensorboard", "metrics.jsonl"):
                _symlink(self.folder / name, train / name)
        if "report" in keys:
            report = self._workspace.artifact("report", keys["report"])
            _link_file(report / "report.html", self.folder / "report.html")
            if "train" in keys:
                self._link_model(train / "model", report / "model_card.md")
        self._state["linked"] = keys

    def _link_model(self, model: Path, card: Path) -> None:
        final = self.folder / "model"
        fresh = self.folder / f"{atomic.TEMPORARY_PREFIX}model"
        shutil.rmtree(fresh, ignore_errors=True)
        for name in atomic.list_files(model):
            _link_file(model / name, fresh / name)
        _link_file(card, fresh / "README.md")
        shutil.rmtree(final, ignore_errors=True)
        os.rename(fresh, final)


def read_run(folder: Path) -> dict[str, Any] | None:
    """A run's run.json, or None when there is none that can be read."""
    try:
        value = json.loads((folder / "run.json").read_text())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _symlink(link: Path, target: Path) -> None:
    """Make `link` a relative symbolic link to `target`, replacing a link or file that is there."""
    fresh = link.with_name(f"{atomic.TEMPORARY_PREFIX}{link.name}")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(os.path.relpath(target, link.parent))
    os.replace(fresh, link)


def _link_file(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
