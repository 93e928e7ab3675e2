"""A run's folder: a view of its last whole result, and what became of the attempts since."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline import atomic
from pipeline.console.terminal_text import printable
from pipeline.engine.artifacts import Workspace
from pipeline.engine.manifests import Manifest, read_manifest
from pipeline.engine.published_copies import (
    CARD,
    card_of,
    card_was_edited,
    differences_in_words,
    folders_of,
    forbidden_names_of,
    mirror,
    recover,
    shown_files,
    without_cards,
)
from pipeline.engine.run_json import (
    IN_PROGRESS,
    earlier_results,
    headline_stages,
    is_same,
    key_of,
    long_part,
    parts_of_result,
    placed_stages,
    read_run_json,
    result_in_words,
    shown_by,
    shown_in_words,
)
from pipeline.engine.stage import Configuration, Stage, section_of
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
from pipeline.progress import Progress

UNFINISHED = "unfinished"
"""In a run's folder, what its last attempt left, if that failed."""


class RunView:
    """`<workspace>/runs/<name>/`: config.yaml, run.json, and what stages show there of their artifacts
    (`Stage.run_folder`).

    Copies are ordinary folders that can be copied again or uploaded. Large files in them are hard links into the
    artifact, where the file system has such. Records of a long stage at work are symbolic links.

    config.yaml and run.json are of the last attempt. All else is of the last whole result, until another replaces it.
    Where the two differ, run.json says in `shown` which result it is. Replaced results are in `earlier/`, a folder
    each. What a failed attempt left is in `unfinished/`.
    """

    def __init__(self, workspace: Workspace, config: Configuration) -> None:
        self.folder = workspace.run(config.run.name)
        self._workspace = workspace
        self._config = config
        earlier = read_run_json(self.folder) or {"stages": {}}
        # What the run used before stays marked as in use until a whole run of this name is done.
        self._earlier = {**earlier.get("earlier", {}), **earlier["stages"]}
        shown = shown_by(workspace, earlier, self.folder)
        self._shown = shown if shown and self._is_whole(shown["stages"]) else None
        self._begun: dict[str, Path] = {}  # work folders of long stages, by name
        self._placed = placed_stages(earlier)
        self._kept: Path | None = None
        self._stages: dict[str, dict[str, Any]] = {}
        self._state: dict[str, Any] = {"name": config.run.name, "outcome": "running", "started": round(time.time(), 3)}
        if IN_PROGRESS in earlier:
            self._state[IN_PROGRESS] = earlier[IN_PROGRESS]

    def record(self, stage: str, manifest: Manifest, outcome: str) -> None:
        """Note a stage's artifact; it is what keeps the artifact from being swept."""
        entry = {"key": manifest["key"], "outcome": outcome, "seconds": manifest["seconds"]}
        summary = manifest["summary"]
        names = self._workspace.stage(stage).summary_keys_in_run_json
        self._stages[stage] = {**entry, **{name: summary[name] for name in names if summary.get(name)}}
        self._write()

    def show_progress_of(self, stage: Stage, work: Path) -> None:
        """Link to the records of a long stage that begins, so that they can be watched."""
        self._link(stage, work)
        self._state[IN_PROGRESS], self._begun[stage.name] = work.name, work
        self._write()
        if self._shown is None:
            self._display(stage, without=headline_stages(self._workspace))

    def start(self) -> None:
        """Write the resolved configuration, and that the run is under way."""
        self.folder.mkdir(parents=True, exist_ok=True)
        # First, so that of the settings of a result nothing is lost if this is killed in between.
        self._write()
        self.configure(self._config)
        atomic.remove(self.folder / UNFINISHED)
        for part in folders_of(self._workspace.stages):
            recover(self.folder / part)

    def configure(self, config: Configuration) -> None:
        """Write the configuration, as far as it is resolved by now."""
        self._config = config
        atomic.write_bytes(self.folder / "config.yaml", config.as_yaml().encode())

    def finish(self) -> None:
        """Mark the run as done and link its artifacts. A partial run leaves the whole result alone that the folder
        already shows."""
        for source in (self._earlier, self._shown["stages"] if self._shown else {}):
            for stage, entry in source.items():
                if stage not in self._stages and self._fits(stage, entry):
                    self._stages[stage] = entry
        is_whole = self._workspace.stages[-1].name in self._stages
        if is_whole:
            self._keep_earlier()
        if is_whole or self._shown is None:
            self._link_artifacts(self._stages)
            for stage in self._workspace.stages:
                self._display(stage)
        else:
            self._show_again(self._shown["stages"])
        if is_whole:
            self._forget_earlier()
            self._earlier, self._shown = {}, None
        self._state |= {"outcome": "done", "exit_code": 0, "finished": round(time.time(), 3)}
        self._write()

    def _keep_earlier(self) -> None:
        """Move what the folder shows into `earlier/`, if it is a result with other figures."""
        shown, place = self._shown, self._workspace.earlier(self.folder.name)
        if shown is None or is_same(self._workspace, shown["stages"], self._stages):
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
            for path in self._parts_shown(shown["stages"]):
                _symlink(folder / path.name, path)
        for display in (one for stage in self._workspace.stages for one in stage.run_folder.extra_folders):
            if (self.folder / display).is_dir():
                os.rename(self.folder / display, place / name / display)
        self._kept = place / name
        Progress("run").say(f"the earlier result, {result_in_words(self._workspace, shown)}, is in {self._kept}")

    def _parts_shown(self, stages: Mapping[str, Any]) -> Iterator[Path]:
        """The files and folders of artifacts that a run shows under their own names."""
        for stage in self._workspace.stages:
            artifact = self._workspace.artifact(stage.name, key_of(stages, stage.name) or "none")
            copies = [source for source, place in stage.run_folder.copies.items() if source == place]
            paths = [artifact / part for part in (*stage.run_folder.links, *copies)]
            yield from (path for path in paths if path.exists())

    def _earlier_of(self, stages: Mapping[str, Any]) -> Path | None:
        """The folder in `earlier/` of a result, if it is there."""
        found = earlier_results(self._workspace, self.folder.name)
        return next((folder for folder, state in found if is_same(self._workspace, state["stages"], stages)), None)

    def _forget_earlier(self) -> None:
        """Remove what is in `earlier/` of the result that the folder shows."""
        while (folder := self._earlier_of(self._stages)) is not None:
            atomic.remove(folder)

    def _exported(self, folder: Path | None = None) -> list[Path]:
        """Files that verbs made of the copies."""
        names = [name for stage in self._workspace.stages for name in stage.run_folder.exports]
        return [path for name in names if (path := (folder or self.folder) / name).is_file()]

    def _is_whole(self, stages: Mapping[str, Any]) -> bool:
        """Whether what a result consists of is still there."""
        keys = {name: key_of(stages, name) for name in parts_of_result(self._workspace)}
        return all(key and self._workspace.find(name, key)[0] is not None for name, key in keys.items())

    def _show_again(self, shown: Mapping[str, Any]) -> None:
        """Link again to the result that the folder shows, instead of to work in progress. Say so where they differ."""
        if not self._begun and all(entry["key"] == key_of(self._stages, name) for name, entry in shown.items()):
            return
        for stage in self._workspace.resumable.values():
            if key := key_of(shown, stage.name):
                self._link(stage, self._workspace.artifact(stage.name, key))
        if self._workspace.stages[-1].name in self._stages:  # which failed while its own result took the place
            self._link_artifacts(shown)
        if self._has_begun_long_work():
            told = shown_in_words(self._workspace, self._shown, shown)
            Progress("run").say(f"{self.folder} still shows {told}")

    def _has_begun_long_work(self) -> bool:
        return bool(self._begun) or long_part(self._workspace, self._stages) is not None

    def _shown_stages(self) -> Mapping[str, Any] | None:
        """The stages of the whole result that the folder shows. Before there is one: of the long work, if it is
        there."""
        if self._shown is not None:
            return self._shown["stages"]
        part = long_part(self._workspace, self._placed)
        is_there = part is not None and self._workspace.find(part[0].name, part[1])[0] is not None
        return self._placed if is_there else None

    def fail(self, error: BaseException) -> None:
        """Record how the run ended. Errors of writing are passed over, since the error that ended the run is
        reported."""
        signalled = isinstance(error, (InterruptedRun, InterruptedUnsaved))
        self._state |= {
            "outcome": "interrupted" if signalled else "failed",
            "exit_code": exit_code(error),
            "finished": round(time.time(), 3),
            "message": printable(str(error) if isinstance(error, DescentError) else in_one_line(error)),
        }
        with suppress(OSError, StorageError):
            self._write()
        with suppress(Exception):  # what a killed stage wrote last may be broken
            by_name = {stage.name: stage for stage in self._workspace.stages}
            told = {name: by_name[name].summary_in_progress(work) for name, work in self._begun.items()}
            self._state[UNFINISHED] = {name: dict(summary) for name, summary in told.items() if any(summary.values())}
            self._write()
            for name, summary in told.items() if self._shown is None else ():
                found = {name: {"summary": summary, "outcome": self._state["outcome"]}}
                self._display(by_name[name], headline_stages(self._workspace), found)

    def leave(self) -> None:
        """After a failure: report what was done, and show the last whole result again. No error here hides the one that
        ended the run."""
        with suppress(Exception):
            if self._begun or self._stages:
                self._tell_unfinished(self._state["message"])
            if (shown := self._shown_stages()) is not None:
                self._show_again(shown)
                self._write()

    def _tell_unfinished(self, message: str) -> None:
        made = {stage: self._workspace.artifact(stage, entry["key"]) for stage, entry in self._stages.items()}
        folders = {**self._begun, **made}
        place = self.folder / UNFINISHED
        place.mkdir(exist_ok=True)
        for stage in self._workspace.stages:
            if stage.report_failure is not None:
                stage.report_failure(place, folders, section_of(self._config, stage), message)
            if self._shown_stages() is not None and stage.checkpointing is not None and stage.name in folders:
                self._link(stage, folders[stage.name], place)
        told = sorted(path for path in place.iterdir() if not path.is_symlink())
        Progress("run").say(f"what was done until then is in {', '.join(map(str, told)) or place}")

    def _fits(self, stage: str, entry: Mapping[str, Any]) -> bool:
        """Whether an artifact of an earlier run of this name was made from the artifacts of this one."""
        manifest = read_manifest(self._workspace.artifact(stage, entry["key"]))
        if manifest is None:
            return False
        return all(self._stages.get(name, {}).get("key") == key for name, key in manifest["input_keys"].items())

    def _display(
        self, stage: Stage, without: Sequence[Stage] = (), unfinished: Mapping[str, Manifest] | None = None
    ) -> None:
        """Write the extra folders of a stage, or remove them where the run has nothing of the stage. `unfinished` has a
        `summary` and the `outcome` of work that failed. No run fails for them."""
        for name, write in stage.run_folder.extra_folders.items():
            if stage.name not in self._stages and stage not in without:
                atomic.remove(self.folder / name)
                continue
            left_out = [one.name for one in without]
            found = {one: self.manifest(one) for one in self._stages if one not in left_out}
            try:
                whole = {one: manifest for one, manifest in found.items() if manifest}
                write(self.folder / name, self._config, {**whole, **(unfinished or {})})
            except Exception as error:
                reason = printable(str(error)) or type(error).__name__
                Progress("run").say(f"warning: {self.folder / name} could not be written: {reason}")

    def _write(self) -> None:
        others = {"earlier": self._earlier, "shown": self._shown, "placed": self._placed}
        state = atomic.sealed({**self._state, "stages": self._stages, **{k: v for k, v in others.items() if v}})
        atomic.write_json(self.folder / "run.json", state)

    def _link(self, stage: Stage, source: Path, place: Path | None = None) -> None:
        for name in stage.run_folder.links:
            _symlink((place or self.folder) / name, source / name)

    def _link_artifacts(self, stages: Mapping[str, Any]) -> None:
        for stage in self._workspace.stages:
            if key := key_of(stages, stage.name):
                self._link(stage, self._workspace.artifact(stage.name, key))
            elif stage.checkpointing is None:
                for name in stage.run_folder.links:
                    (self.folder / name).unlink(missing_ok=True)
        if any(stage.run_folder.copies and stage.name in stages for stage in self._workspace.stages):
            self._show_folders(stages)

    def _show_folders(self, stages: Mapping[str, Any]) -> None:
        shown, before = (shown_files(self._workspace, one) for one in (stages, self._placed))
        if without_cards(shown) != without_cards(before):
            for exported in self._exported():
                self._put_away(exported)
        digest, forbidden_names = self._workspace.digest, forbidden_names_of(self._workspace.stages)
        for name, files in shown.items():
            folder = self.folder / name
            if not self._is_card_of(stages) and card_was_edited(files, folder, before[name], digest):
                self._put_away(folder / CARD)
            if not files and not os.path.lexists(folder):
                continue
            found = mirror(files, folder, before[name], digest, forbidden_names)
            for line in differences_in_words(found, folder, was_shown=files == before[name]):
                Progress("run").say(line)
        self._placed = {**stages}
        self._bring_back(stages)

    def _is_card_of(self, stages: Mapping[str, Any]) -> bool:
        """Whether an edited card describes this result, as far as there was one when the card was put there."""
        names = [stage.name for stage in headline_stages(self._workspace)]
        return all(key_of(self._placed, name) in (None, key_of(stages, name)) for name in names)

    def _put_away(self, path: Path) -> None:
        """Move a file that describes another result: to that result in `earlier/`, or else aside."""
        aside = atomic.place_aside(self.folder / PurePosixPath(card_of(self._workspace.stages)).parts[0])
        target = (self._kept or aside) / path.name
        if os.path.lexists(target):
            target = aside / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        os.rename(path, target)
        nouns = " or ".join(stage.noun for stage in headline_stages(self._workspace))
        Progress("run").say(f"{path} is of another {nouns}: moved to {target}")

    def _bring_back(self, stages: Mapping[str, Any]) -> None:
        """Move back what `_put_away` moved, when its result is shown again."""
        folder = self._earlier_of(stages) if {*parts_of_result(self._workspace)} <= stages.keys() else None
        if folder is not None:
            for path in (folder / CARD, *self._exported(folder)):
                target = self.folder / (card_of(self._workspace.stages) if path.name == CARD else path.name)
                if path.is_file():
                    os.replace(path, target)
                    Progress("run").say(f"{target} is back from {folder}")

    def artifact(self, stage: str) -> Path | None:
        """Folder of the artifact that the run has of a stage."""
        key = key_of(self._stages, stage)
        return self._workspace.artifact(stage, key) if key else None

    def manifest(self, stage: str) -> Manifest | None:
        """The manifest of that artifact."""
        folder = self.artifact(stage)
        return read_manifest(folder) if folder is not None else None

    def was_built(self, stage: str) -> bool:
        """Whether this run made the artifact itself."""
        return stage in self._stages and self._stages[stage]["outcome"] == "built"


@contextmanager
def running(workspace: Workspace, config: Configuration, on_wait: Callable[[str], None]) -> Iterator[RunView]:
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
            view.leave()
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
