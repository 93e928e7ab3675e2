"""A run's folder: a view of its last whole result, and word of the attempts since."""

from __future__ import annotations

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
from pipeline.config.optimization import NEVER_END
from pipeline.config.reading import dump
from pipeline.config.report import ReportConfig
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
from pipeline.extending import rewarm_steps_for
from pipeline.intact import digest_of
from pipeline.manifests import Manifest, flatten, read_manifest, shown_setting
from pipeline.mirrors import in_words, mirror, shown_files, weights_of
from pipeline.progress import Progress
from pipeline.results import (
    RESULT,
    earlier_results,
    is_same,
    is_shown,
    main_result,
    read_run,
    result_in_words,
    shown_by,
    shown_in_words,
    shown_stages,
)
from pipeline.terminal import printable

UNFINISHED = "unfinished"
"""In a run's folder, what its last attempt left, if that failed."""

LIVE = ("tensorboard", "metrics.jsonl")
SHOWN_OF_TRAINING = (*LIVE, "model", "adapter")


class RunView:
    """`<workspace>/runs/<name>/`: config.yaml, run.json, metrics.jsonl, tensorboard/, hparams/, model/, adapter/ and
    report.html.

    `model/` is an ordinary folder that can be copied or uploaded: its weights are hard links into the artifact
    (copies where the file system has none), the rest copies. What is live during training is a symbolic link.

    config.yaml and run.json tell of the last attempt. All else shows the last whole result, until another takes its
    place; where that is not the last attempt's, run.json says in `shown` what it is. Results that others took the place
    of are in `earlier/`, a folder each; what an attempt left that failed is in `unfinished/`.
    """

    def __init__(self, workspace: Workspace, config: Config) -> None:
        self.folder = workspace.run(config.run.name)
        self._workspace = workspace
        self._config = config
        earlier = read_run(self.folder) or {"stages": {}}
        # What the run used before stays marked as in use until a whole run of this name is done.
        self._earlier = {**earlier.get("earlier", {}), **earlier["stages"]}
        shown = shown_by(earlier, self.folder)
        self._shown = shown if shown and self._is_whole(shown["stages"]) else None
        self._work: Path | None = None
        self._placed = shown_files(workspace, shown_stages(earlier) if is_shown(earlier) else {})
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
        for name in LIVE:
            _symlink(self.folder / name, work / name)
        self._state["training"], self._work = work.name, work
        self._write()
        if self._shown is None:
            self._show_in_table(without=("train", "evaluate"))

    def start(self) -> None:
        """Write the resolved configuration, and that the run is under way."""
        self.folder.mkdir(parents=True, exist_ok=True)
        # First, so that of the settings of a result nothing is lost if this is killed in between.
        self._write()
        self.configure(self._config)
        atomic.remove(self.folder / UNFINISHED)

    def configure(self, config: Config) -> None:
        """Write the configuration, as far as it is resolved by now."""
        self._config = config
        atomic.write_bytes(self.folder / "config.yaml", dump(config.values()).encode())

    def finish(self) -> None:
        """Write that the run is done, and link what the stages made, unless it is a part of one and the folder shows a
        whole result."""
        for source in (self._earlier, self._shown["stages"] if self._shown else {}):
            for stage, entry in source.items():
                if stage not in self._stages and self._fits(stage, entry):
                    self._stages[stage] = entry
        is_whole = "report" in self._stages
        if is_whole:
            self._keep_earlier()
        if is_whole or self._shown is None:
            self._link_artifacts(self._stages)
            if "train" in self._stages:
                self._show_in_table()
            else:
                atomic.remove(self.folder / hparams.FOLDER)
        else:
            self._show_result_again(self._shown)
        if is_whole:
            self._earlier, self._shown = {}, None
        self._state |= {"outcome": "done", "exit_code": 0, "finished": round(time.time(), 3)}
        self._write()

    def _keep_earlier(self) -> None:
        """Move what the folder shows into `earlier/`, where it is the result of another training or evaluation."""
        shown, place = self._shown, self._workspace.earlier(self.folder.name)
        found = earlier_results(self._workspace, self.folder.name)
        for folder, state in found:
            if is_same(state["stages"], self._stages):
                atomic.remove(folder)
        if shown is None or is_same(shown["stages"], self._stages):
            return
        if any(is_same(state["stages"], shown["stages"]) for _, state in found):
            return  # an attempt kept it that was killed before it could say so
        name = time.strftime("%Y-%m-%d_%H-%M-%S", time.localtime(shown["finished"]))
        while os.path.lexists(place / name):
            name += "+"
        state = {"name": self._config.run.name, "outcome": "done", "exit_code": 0}
        with atomic.replacing_folder(place / name) as folder:
            atomic.write_bytes(folder / "config.yaml", shown["config"].encode())
            kept = {key: shown[key] for key in ("started", "finished", "stages")}
            atomic.write_json(folder / "run.json", atomic.sealed({**state, **kept}))
            train, report = (self._workspace.artifact(one, shown["stages"][one]["key"]) for one in ("train", "report"))
            for path in (*(train / part for part in SHOWN_OF_TRAINING), report / "report.html"):
                if path.exists():
                    _symlink(folder / path.name, path)
        if (self.folder / hparams.FOLDER).is_dir():
            os.rename(self.folder / hparams.FOLDER, place / name / hparams.FOLDER)
        for exported in self._exported():
            atomic.link(exported, place / name / exported.name)
        Progress("run").say(f"the earlier result, {result_in_words(self._workspace, shown)}, is in {place / name}")

    def _exported(self) -> list[Path]:
        """Files that `descent export` wrote of model/."""
        return [path for outtype in OUTTYPES if (path := self.folder / gguf_name(outtype)).is_file()]

    def _is_whole(self, stages: Mapping[str, Any]) -> bool:
        """Whether what a result consists of is still there."""
        return all(self._workspace.find(stage, stages[stage]["key"])[0] is not None for stage in RESULT)

    def _show_result_again(self, shown: Mapping[str, Any]) -> None:
        """Let what was live be that of the result again which the folder shows; say so where there is another."""
        if self._work is None and all(entry["key"] == self._key_of(stage) for stage, entry in shown["stages"].items()):
            return
        train = self._workspace.artifact("train", shown["stages"]["train"]["key"])
        for name in LIVE:
            _symlink(self.folder / name, train / name)
        if "report" in self._stages:  # which failed while its own result took the place
            self._link_artifacts(shown["stages"])
        if self._work is not None or "train" in self._stages:
            Progress("run").say(f"{self.folder} still shows {shown_in_words(self._workspace, shown)}")

    def _key_of(self, stage: str) -> str | None:
        entry = self._stages.get(stage)
        return entry["key"] if entry else None

    def result(self) -> str:
        """The figures of a whole run in one line."""
        train, evaluate = (self._manifest(stage)["summary"] for stage in ("train", "evaluate"))
        metric = main_metric(evaluate)
        others = [f"{name} {one[metric]:.3f}" for name, one in evaluate["baselines"].items()]
        compared = f" ({', '.join(others)})" if others else ""
        gradients = train["gradients"]["verdict"]
        return f"result       {main_result(evaluate)}{compared}; gradients {gradients}"

    def how_to_train_longer(self) -> str:
        """What to type to go on from the training of this run, where raising its length alone begins anew; "" for one
        that was there before."""
        section, ended = self._config.train, self._manifest("train")["summary"]["steps"]
        goes_on = (*NEVER_END, "warmup_stable_decay")
        if self._stages["train"]["outcome"] != "built" or section.lr_scheduler_type in goes_on:
            return ""
        rewarm = rewarm_steps_for(section, ended)
        return f"train.max_steps={2 * ended} train.rewarm_steps={rewarm} goes on from these {ended:,} steps"

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

    def leave(self, error: BaseException) -> None:
        """After a failure: report what was done, where a training had begun, and show the last whole result again. No
        error hides the one that ended the run."""
        with suppress(Exception):
            if (self._work is not None or "train" in self._stages) and not isinstance(error, InterruptedUnsaved):
                self._report_unfinished(self._state["message"])
            if self._shown is not None:
                self._show_result_again(self._shown)

    def _report_unfinished(self, message: str) -> None:
        from pipeline.reporting.data import read_run as read_data
        from pipeline.reporting.html import render_report

        folders = {stage: self._workspace.artifact(stage, entry["key"]) for stage, entry in self._stages.items()}
        train = folders.setdefault("train", self._work or self.folder)
        place = self.folder / UNFINISHED
        place.mkdir(exist_ok=True)
        page = render_report(read_data(folders, self._config.report or ReportConfig()), unfinished=message)
        atomic.write_bytes(place / "report.html", page.encode())
        if self._shown is not None:
            for name in LIVE:
                _symlink(place / name, train / name)
        Progress("run").say(f"what was done until then is in {place / 'report.html'}")

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
        others = {"earlier": self._earlier, "shown": self._shown}
        state = atomic.sealed({**self._state, "stages": self._stages, **{k: v for k, v in others.items() if v}})
        atomic.write_json(self.folder / "run.json", state)

    def _link_artifacts(self, stages: Mapping[str, Any]) -> None:
        folders = {stage: self._workspace.artifact(stage, entry["key"]) for stage, entry in stages.items()}
        train, report = folders.get("train"), folders.get("report")
        if train is not None:
            for name in LIVE:
                _symlink(self.folder / name, train / name)
            self._show_folders(stages)
        page = self.folder / "report.html"
        if report is not None:
            _symlink(page, report / "report.html")
        else:
            page.unlink(missing_ok=True)

    def _show_folders(self, stages: Mapping[str, Any]) -> None:
        shown = shown_files(self._workspace, stages)
        if weights_of(shown) != weights_of(self._placed):
            for exported in self._exported():  # of another training
                exported.unlink()
        for name, files in shown.items():
            folder, earlier = self.folder / name, self._placed[name]
            if not files:
                shutil.rmtree(folder, ignore_errors=True)
                continue
            found = mirror(files, folder, earlier, self._workspace.digest)
            for line in in_words(found, folder, was_shown=files == earlier):
                Progress("run").say(line)
        self._placed = shown

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
            view.leave(error)
            raise


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
    key = shown_stages(state).get("train", {}).get("key", "none")
    return (read_manifest(workspace.artifact("train", key)) or {"files": {}})["files"]


def made_with(workspace: Workspace, config: Config, keys: Sequence[str]) -> list[str]:
    """Settings below these keys with which the model of a run was made, where the configuration now says otherwise."""
    told = []
    for stage, entry in shown_stages(read_run(workspace.run(config.run.name)) or {"stages": {}}).items():
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
