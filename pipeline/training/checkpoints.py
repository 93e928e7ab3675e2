"""Folders of checkpoints: written in the background, whole or absent, verified before use, rotated. Knows nothing of
tensors."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from pipeline.atomic import TEMPORARY_PREFIX, digest_file, list_files, replacing_folder, write_json

PREFIX = "step-"
DIGESTS = "digests.json"


class CheckpointWriter:
    """Writes checkpoints in a thread of its own while training goes on, one at a time.

    What goes wrong there is raised by the next call of any method; leaving the block waits for the last write. Only
    process 0 writes; in the others nothing happens.
    """

    def __init__(self, work: Path, keep: int, minutes: float | None, is_main: bool) -> None:
        self._work, self._keep, self._is_main = work, keep, is_main
        self._interval_seconds = None if minutes is None else 60 * minutes
        self._saved = time.monotonic()
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def is_overdue(self) -> bool:
        """Whether the last checkpoint was begun longer ago than wanted. Raises what went wrong in writing it."""
        if self._error is not None:
            self.wait()
        waited = time.monotonic() - self._saved
        return self._is_main and self._interval_seconds is not None and waited >= self._interval_seconds

    def save(self, step: int, write: Callable[[Path], None], best: int | None = None) -> None:
        """Begin to save what `write` writes, which must not change any more; see `save_checkpoint`. Waits for the one
        before, so that memory holds no more than one."""
        self._saved = time.monotonic()
        if self._is_main:
            self.wait()
            self._thread = threading.Thread(target=self._run, args=(step, write, best), name="checkpoint", daemon=True)
            self._thread.start()

    def wait(self) -> None:
        """Wait until nothing is being written. Raises what went wrong."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _run(self, step: int, write: Callable[[Path], None], best: int | None) -> None:
        try:
            save_checkpoint(self._work, step, write, self._keep, best)
        except BaseException as error:
            self._error = error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.wait()
        except BaseException:
            if error is None:
                raise


def save_checkpoint(work: Path, step: int, write: Callable[[Path], None], keep: int, best: int | None = None) -> None:
    """Write `work/step-<step>` atomically with `write(folder)` and the digest of every file; keep the newest `keep`,
    and that of step `best`.

    A checkpoint of this step that exists already is left alone: equal steps hold equal states.
    """
    final = checkpoint_of(work, step)
    if not final.exists():
        with replacing_folder(final) as folder:
            write(folder)
            write_json(folder / DIGESTS, {name: digest_file(folder / name) for name in list_files(folder)})
    for old in list_checkpoints(work)[:-keep]:
        if step_of(old) != best:
            _remove(old)


def checkpoint_of(work: Path, step: int) -> Path:
    """The folder of a step's checkpoint, whether or not it exists."""
    return work / f"{PREFIX}{step:08d}"


def list_checkpoints(work: Path) -> list[Path]:
    """Complete checkpoints, oldest first. Their content is not verified."""
    found = [path for path in work.glob(f"{PREFIX}*") if path.name.removeprefix(PREFIX).isdigit() and path.is_dir()]
    return sorted(found, key=step_of)


def step_of(checkpoint: Path) -> int:
    """The number of updates after which a checkpoint was taken."""
    return int(checkpoint.name.removeprefix(PREFIX))


def newest_valid(work: Path, warn: Callable[[str], None]) -> Path | None:
    """The newest checkpoint whose files all match their digests, or None.

    Newer ones that do not match are renamed to `broken-step-<step>`, with one warning each. What an interrupted
    write or removal left behind is cleared: call this only while holding the training's lock.
    """
    for leftover in work.glob(f"{TEMPORARY_PREFIX}*"):
        shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
    for checkpoint in reversed(list_checkpoints(work)):
        problem = problem_of(checkpoint)
        if problem is None:
            return checkpoint
        aside = set_aside(checkpoint)
        warn(f"warning: {checkpoint.name} is broken ({problem}): set aside as {aside.name}, trying the one before")
    return None


def set_aside(checkpoint: Path) -> Path:
    """Rename a checkpoint so that it is never resumed from; returns where it went."""
    aside = checkpoint.with_name(f"broken-{checkpoint.name}")
    shutil.rmtree(aside, ignore_errors=True)
    os.rename(checkpoint, aside)
    return aside


def problem_of(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint's files by their digests; None when they are whole."""
    try:
        digests = json.loads((checkpoint / DIGESTS).read_bytes())
        if not isinstance(digests, dict):
            return f"{DIGESTS} is not a mapping"
        if differing := digests.keys() ^ {*list_files(checkpoint)} - {DIGESTS}:
            return f"{DIGESTS} and the files differ in {min(differing)}"
        for name, digest in digests.items():
            if digest_file(checkpoint / name) != digest:
                return f"{name} does not match its digest"
    except (OSError, ValueError, RecursionError) as error:
        return f"{type(error).__name__}: {error}"
    return None


def _remove(checkpoint: Path) -> None:
    """Remove a checkpoint so that no half-removed one is ever taken for a whole one."""
    doomed = checkpoint.with_name(f"{TEMPORARY_PREFIX}{checkpoint.name}")
    os.rename(checkpoint, doomed)
    shutil.rmtree(doomed)
