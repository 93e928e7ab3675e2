"""A run's folder: a view of its artifacts that is rebuilt whenever they change."""

from __future__ import annotations

import filecmp
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pipeline import atomic, hparams
from pipeline.artifacts import Workspace
from pipeline.config import Config
from pipeline.config.evaluation import main_metric
from pipeline.config.reading import dump
from pipeline.errors import (
    ConfigError,
    DamageError,
    DescentError,
    InterruptedRun,
    InterruptedUnsaved,
    StorageError,
    exit_code,
    in_one_line,
    panics_as_errors,
    storage_errors,
)
from pipeline.exporting import OUTTYPES, gguf_name
from pipeline.intact import digest_of
from pipeline.manifests import Manifest, flatten, is_key, read_manifest, shown_setting
from pipeline.progress import Progress
from pipeline.terminal import printable


class RunView:
    """`<workspace>/runs/<name>/`: config.yaml, run.json, metrics.jsonl, tensorboard/, hparams/, model/, adapter/ and
    report.html.

    `model/` is an ordinary folder that can be copied or uploaded: its weights are hard links into the artifact
    (copies where the file system has none), the rest copies. What is live during training is a symbolic link.
    """

    def __init__(self, workspace: Workspace, config: Config) -> None:
        self.folder = workspace.run(config.run.name)
        self._workspace = workspace
        self._config = config
        earlier = read_run(self.folder) or {"stages": {}}
        # What the run used before stays marked as in use until a whole run of this name is done.
        self._earlier = {**earlier.get("earlier", {}), **earlier["stages"]}
        self._stages: dict[str, dict[str, Any]] = {}
        self._state: dict[str, Any] = {"name": config.run.name, "outcome": "running", "started": round(time.time(), 3)}
        if "training" in earlier:
            self._state["training"] = earlier["training"]

    def record(self, stage: str, manifest: Manifest, outcome: str) -> None:
        """Note a stage's artifact; it is what keeps the artifact from being swept."""
        entry = {"key": manifest["key"], "outcome": outcome, "seconds": manifest["seconds"]}
        if ended := manifest["summary"].get("stopped_early"):
            entry["stopped_early"] = ended
        self._stages[stage] = entry
        self._write()

    def show_progress_of(self, work: Path) -> None:
        """Point tensorboard/ and metrics.jsonl at a training in progress, so that both can be watched."""
        for name in ("tensorboard", "metrics.jsonl"):
            _symlink(self.folder / name, work / name)
        self._state["training"] = work.name
        self._write()
        self._show_in_table(without=("train", "evaluate"))

    def start(self) -> None:
        """Write the resolved configuration, and that the run is under way."""
        self.folder.mkdir(parents=True, exist_ok=True)
        atomic.write_bytes(self.folder / "config.yaml", dump(self._config.values()).encode())
        self._write()

    def finish(self) -> None:
        """Write that the run is done, and link what the stages made."""
        for stage, entry in self._earlier.items():
            if stage not in self._stages and self._fits(stage, entry):
                self._stages[stage] = entry
        if "report" in self._stages:
            self._earlier = {}
        self._link_artifacts()
        if "train" in self._stages:
            self._show_in_table()
        else:
            atomic.remove(self.folder / hparams.FOLDER)
        self._state |= {"outcome": "done", "exit_code": 0, "finished": round(time.time(), 3)}
        self._write()

    def result(self) -> str:
        """The figures of a whole run in one line."""
        train, evaluate = (self._manifest(stage)["summary"] for stage in ("train", "evaluate"))
        metric = main_metric(evaluate)
        others = [f"{name} {one[metric]:.3f}" for name, one in evaluate["baselines"].items()]
        compared = f" ({', '.join(others)})" if others else ""
        gradients = train["gradients"]["verdict"]
        return f"result       {main_result(evaluate)}{compared}; gradients {gradients}"

    def _manifest(self, stage: str) -> Manifest:
        manifest = read_manifest(self._workspace.artifact(stage, self._stages[stage]["key"]))
        assert manifest is not None
        return manifest

    def fail(self, error: BaseException) -> None:
        """Write how the run ended. Errors of writing are passed over: the one that ended the run is told."""
        signalled = isinstance(error, (InterruptedRun, InterruptedUnsaved))
        self._state |= {
            "outcome": "interrupted" if signalled else "failed",
            "exit_code": exit_code(error),
            "finished": round(time.time(), 3),
            "message": printable(str(error) if isinstance(error, DescentError) else in_one_line(error)),
        }
        with suppress(OSError, StorageError):
            self._write()

    def _fits(self, stage: str, entry: Mapping[str, Any]) -> bool:
        """Whether an artifact of an earlier run of this name was made from the artifacts of this one."""
        manifest = read_manifest(self._workspace.artifact(stage, entry["key"]))
        if manifest is None:
            return False
        return all(self._stages.get(name, {}).get("key") == key for name, key in manifest["input_keys"].items())

    def _show_in_table(self, without: Sequence[str] = ()) -> None:
        """Tell TensorBoard the settings and results of the run. No run fails for it."""
        stages = [stage for stage in ("model", "train", "evaluate") if stage in self._stages and stage not in without]
        try:
            hparams.write_row(self.folder, self._config, {stage: self._manifest(stage) for stage in stages})
        except Exception as error:
            reason = printable(str(error)) or type(error).__name__
            Progress("run").say(f"warning: {self.folder / hparams.FOLDER} is not for TensorBoard to show: {reason}")

    def _write(self) -> None:
        earlier = {"earlier": self._earlier} if self._earlier else {}
        state = atomic.sealed({**self._state, "stages": self._stages, **earlier})
        atomic.write_json(self.folder / "run.json", state)

    def _link_artifacts(self) -> None:
        train, report = self.artifact("train"), self.artifact("report")
        if train is not None:
            for name in ("tensorboard", "metrics.jsonl"):
                _symlink(self.folder / name, train / name)
            files = {name: train / "model" / name for name in atomic.list_files(train / "model")}
            if not _holds(files, self.folder / "model"):
                for outtype in OUTTYPES:  # what was exported of another training
                    atomic.remove(self.folder / gguf_name(outtype))
            if report is not None:
                files["README.md"] = report / "model_card.md"
            _mirror(files, self.folder / "model")
            adapter = train / "adapter"
            if adapter.is_dir():
                _mirror({name: adapter / name for name in atomic.list_files(adapter)}, self.folder / "adapter")
            else:
                shutil.rmtree(self.folder / "adapter", ignore_errors=True)
        page = self.folder / "report.html"
        if report is not None:
            _symlink(page, report / "report.html")
        else:
            page.unlink(missing_ok=True)

    def artifact(self, stage: str) -> Path | None:
        """Folder of the artifact that the run has of a stage."""
        entry = self._stages.get(stage)
        return self._workspace.artifact(stage, entry["key"]) if entry else None


@contextmanager
def running(workspace: Workspace, config: Config, on_wait: Callable[[str], None]) -> Iterator[RunView]:
    """The view of a run that is carried out inside the block; runs of one name take turns."""
    with workspace.lock("run", config.run.name, on_wait):
        view = RunView(workspace, config)
        try:
            with storage_errors(workspace.root), panics_as_errors():
                view.start()
                yield view
                view.finish()
        except BaseException as error:
            view.fail(error)
            raise


def read_run(folder: Path) -> dict[str, Any] | None:
    """A run's run.json, or None when there is none that can be read, or it was altered."""
    try:
        value = atomic.read_sealed(folder / "run.json")
        if value is None:
            return None
        used = [*value["stages"].items(), *value.get("earlier", {}).items()]
        whole = isinstance(value["name"], str) and isinstance(value["outcome"], str)
        whole = whole and isinstance(value["started"], (int, float))
        return value if whole and all(stage.isidentifier() and is_key(entry["key"]) for stage, entry in used) else None
    except (StorageError, TypeError, KeyError, AttributeError):
        return None


def outcome_of(workspace: Workspace, name: str, state: Mapping[str, Any]) -> str:
    """How a run ended, from its run.json; one that was killed could not say so itself."""
    is_running = state["outcome"] == "running" and workspace.is_locked("run", name)
    return "killed" if state["outcome"] == "running" and not is_running else str(state["outcome"])


def main_result(evaluation: Mapping[str, Any]) -> str:
    """The figure by which a run is judged, on the held-out documents, from the summary of its evaluation."""
    metric = main_metric(evaluation)
    remark = " (no bits per byte: its tokenizer loses text)" if evaluation.get("withheld") else ""
    return f"{evaluation['test'][metric]:.3f} {metric.replace('_', ' ')}{remark}"


def check_model(workspace: Workspace, name: str) -> None:
    """Raises DamageError when a file of a run's model/, its card aside, is not what its training made."""
    for file, entry in _trained_files(workspace, name).items():
        path = workspace.run(name) / file
        is_there = path.is_file()
        if file.startswith("model/") and not (is_there and digest_of(path) == entry["sha256"]):
            what = "is not what the training made" if is_there else "is missing"
            raise DamageError(f"{path} {what}; `descent verify`, then run again: it is put there anew")


def check_code(workspace: Workspace, name: str) -> None:
    """Raises ConfigError when a run's model/ holds Python code that its training did not make: loading would run it."""
    folder, files = workspace.run(name) / "model", _trained_files(workspace, name)
    for path in sorted(folder.rglob("*.py")):
        known = files.get(f"model/{path.relative_to(folder).as_posix()}", {})
        if known.get("sha256") != atomic.digest_file(path):
            raise ConfigError(f"{path}: the run did not make this code, so it is not run; remove it")


def _trained_files(workspace: Workspace, name: str) -> dict[str, Any]:
    """The files of a run's training, as its manifest lists them."""
    state = read_run(workspace.run(name)) or {"stages": {}}
    key = state["stages"].get("train", {}).get("key", "none")
    return (read_manifest(workspace.artifact("train", key)) or {"files": {}})["files"]


def made_with(workspace: Workspace, config: Config, keys: Sequence[str]) -> list[str]:
    """Settings below these keys with which the model of a run was made, where the configuration now says otherwise."""
    told = []
    for stage, entry in (read_run(workspace.run(config.run.name)) or {"stages": {}})["stages"].items():
        manifest, section = read_manifest(workspace.artifact(stage, entry["key"])), getattr(config, stage, None)
        if manifest is None or section is None or stage in ("evaluate", "report"):
            continue
        before, after = flatten(manifest["section"], stage), flatten(section.identity(), stage)
        changed = [name for name in before if before[name] != after.get(name)]
        told += [
            f"{name} {shown_setting(before, name)}"
            for name in changed
            if any(name == key or name.startswith(f"{key}.") for key in keys)
        ]
    return told


def _symlink(link: Path, target: Path) -> None:
    """Make `link` a relative symbolic link to `target`, replacing a link or file that is there."""
    wanted = os.path.relpath(target, link.parent)
    if link.is_symlink() and os.readlink(link) == wanted:
        return
    fresh = link.with_name(f"{atomic.TEMPORARY_PREFIX}{link.name}")
    atomic.remove(fresh)
    fresh.symlink_to(wanted)
    if link.is_dir() and not link.is_symlink():
        atomic.remove(link)
    os.replace(fresh, link)


def _mirror(files: Mapping[str, Path], folder: Path) -> None:
    """Make `folder` hold exactly these files; it is replaced as a whole when one differs."""
    has_links = folder.is_symlink() or atomic.list_links(folder)
    is_same = folder.is_dir() and not has_links and set(atomic.list_files(folder)) == files.keys()
    if is_same and _holds(files, folder):
        return
    fresh = folder.with_name(f"{atomic.TEMPORARY_PREFIX}{folder.name}")
    atomic.remove(fresh)
    for name, source in files.items():
        (fresh / name).parent.mkdir(parents=True, exist_ok=True)
        _place(source, fresh / name)
    atomic.remove(folder)
    os.rename(fresh, folder)


def _holds(files: Mapping[str, Path], folder: Path) -> bool:
    """Whether all these files are in `folder`."""
    return all((folder / name).is_file() and filecmp.cmp(source, folder / name) for name, source in files.items())


def _place(source: Path, target: Path) -> None:
    """Hard-link weights, which are large; copy what a person may want to edit."""
    if source.suffix == ".safetensors":
        atomic.link(source, target)
    else:
        shutil.copy2(source, target)
        target.chmod(0o644)
