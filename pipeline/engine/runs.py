"""A run's folder: a view of its last whole result, and word of the attempts since."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pipeline import atomic
from pipeline.config import Config
from pipeline.config.reading import dump
from pipeline.console.printable import printable
from pipeline.engine.artifacts import Workspace
from pipeline.engine.continuing import rewarm_steps_for
from pipeline.engine.manifests import Manifest, read_manifest
from pipeline.engine.mirrors import (
    CARD,
    FOLDERS,
    card_was_edited,
    in_words,
    mirror,
    place_aside,
    recover,
    shown_files,
    weights_of,
)
from pipeline.engine.results import (
    RESULT,
    earlier_results,
    is_same,
    key_of,
    main_result,
    part_in_words,
    placed_stages,
    read_run,
    result_in_words,
    shown_by,
    shown_in_words,
)
from pipeline.errors import (
    DescentError,
    InterruptedRun,
    InterruptedUnsaved,
    StorageError,
    exit_code,
    in_one_line,
    panics_as_errors,
    storage_errors,
)
from pipeline.evaluation.evaluate_config import main_metric
from pipeline.exporting import OUTTYPES, gguf_name
from pipeline.progress import Progress
from pipeline.reporting import hparams
from pipeline.reporting.report_config import ReportConfig
from pipeline.training.optimization_config import NEVER_END

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
        self._placed = placed_stages(earlier)
        self._kept: Path | None = None
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
        for part in FOLDERS:
            recover(self.folder / part)

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
            self._show_again(self._shown["stages"])
        if is_whole:
            self._forget_earlier()
            self._earlier, self._shown = {}, None
        self._state |= {"outcome": "done", "exit_code": 0, "finished": round(time.time(), 3)}
        self._write()

    def _keep_earlier(self) -> None:
        """Move what the folder shows into `earlier/`, where it is the result of another training or evaluation."""
        shown, place = self._shown, self._workspace.earlier(self.folder.name)
        if shown is None or is_same(shown["stages"], self._stages):
            return
        self._kept = self._earlier_of(shown["stages"])
        if self._kept is not None:
            return  # by an attempt that was killed before it could say so
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
        self._kept = place / name
        Progress("run").say(f"the earlier result, {result_in_words(self._workspace, shown)}, is in {self._kept}")

    def _earlier_of(self, stages: Mapping[str, Any]) -> Path | None:
        """The folder in `earlier/` of a result, if it is there."""
        found = earlier_results(self._workspace, self.folder.name)
        return next((folder for folder, state in found if is_same(state["stages"], stages)), None)

    def _forget_earlier(self) -> None:
        """Remove what is in `earlier/` of the result that the folder shows."""
        while (folder := self._earlier_of(self._stages)) is not None:
            atomic.remove(folder)

    def _exported(self, folder: Path | None = None) -> list[Path]:
        """Files that `descent export` wrote of model/."""
        return [path for outtype in OUTTYPES if (path := (folder or self.folder) / gguf_name(outtype)).is_file()]

    def _is_whole(self, stages: Mapping[str, Any]) -> bool:
        """Whether what a result consists of is still there."""
        return all(self._workspace.find(stage, stages[stage]["key"])[0] is not None for stage in RESULT)

    def _show_again(self, shown: Mapping[str, Any]) -> None:
        """Let what was live be again that of the training which the folder shows; say so where there is another."""
        if self._work is None and all(entry["key"] == key_of(self._stages, name) for name, entry in shown.items()):
            return
        train = self._workspace.artifact("train", shown["train"]["key"])
        for name in LIVE:
            _symlink(self.folder / name, train / name)
        if "report" in self._stages:  # which failed while its own result took the place
            self._link_artifacts(shown)
        if self._work is not None or "train" in self._stages:
            words = shown_in_words(self._workspace, self._shown) if self._shown else None
            Progress("run").say(f"{self.folder} still shows {words or part_in_words(self._workspace, shown)}")

    def _shown_stages(self) -> Mapping[str, Any] | None:
        """Of the whole result that the folder shows, or of the training before there is one, while that is there."""
        if self._shown is not None:
            return self._shown["stages"]
        key = key_of(self._placed, "train")
        is_there = key is not None and self._workspace.find("train", key)[0] is not None
        return self._placed if is_there else None

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
            if (shown := self._shown_stages()) is not None:
                self._show_again(shown)
                self._write()

    def _report_unfinished(self, message: str) -> None:
        from pipeline.reporting.data import read_run as read_data
        from pipeline.reporting.html import render_report

        folders = {stage: self._workspace.artifact(stage, entry["key"]) for stage, entry in self._stages.items()}
        train = folders.setdefault("train", self._work or self.folder)
        place = self.folder / UNFINISHED
        place.mkdir(exist_ok=True)
        page = render_report(read_data(folders, self._config.report or ReportConfig()), unfinished=message)
        atomic.write_bytes(place / "report.html", page.encode())
        if self._shown_stages() is not None:
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
        others = {"earlier": self._earlier, "shown": self._shown, "placed": self._placed}
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
        shown, before = (shown_files(self._workspace, one) for one in (stages, self._placed))
        if weights_of(shown) != weights_of(before):
            for exported in self._exported():
                self._put_away(exported)
        digest, card = self._workspace.digest, self.folder / "model" / CARD
        if not self._is_card_of(stages) and card_was_edited(shown["model"], card.parent, before["model"], digest):
            self._put_away(card)
        for name, files in shown.items():
            folder = self.folder / name
            if not files and not os.path.lexists(folder):
                continue
            found = mirror(files, folder, before[name], digest)
            for line in in_words(found, folder, was_shown=files == before[name]):
                Progress("run").say(line)
        self._placed = {**stages}
        self._bring_back(stages)

    def _is_card_of(self, stages: Mapping[str, Any]) -> bool:
        """Whether what an edited card tells is of this training, and of its evaluation where there was one."""
        evaluated = key_of(self._placed, "evaluate")
        is_of_training = key_of(self._placed, "train") == key_of(stages, "train")
        return is_of_training and evaluated in (None, key_of(stages, "evaluate"))

    def _put_away(self, path: Path) -> None:
        """Move a file that tells of what the folder showed to that result in `earlier/`, or else aside."""
        target = (self._kept or place_aside(self.folder / "model")) / path.name
        if os.path.lexists(target):
            target = place_aside(self.folder / "model") / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        os.rename(path, target)
        Progress("run").say(f"{path} is of another training or evaluation: moved to {target}")

    def _bring_back(self, stages: Mapping[str, Any]) -> None:
        """Move back what `_put_away` moved, with the result that it tells of."""
        folder = self._earlier_of(stages) if {*RESULT} <= stages.keys() else None
        if folder is not None:
            for path in (folder / CARD, *self._exported(folder)):
                target = self.folder / ("model" if path.name == CARD else "") / path.name
                if path.is_file():
                    os.replace(path, target)
                    Progress("run").say(f"{target} is back from {folder}")

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
