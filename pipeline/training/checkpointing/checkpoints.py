"""Folders of checkpoints: written in the background, whole or absent, verified before use, rotated. Knows nothing of
tensors.

Where several processes hold parts of a model, each writes files of its own below a temporary name, and process 0 takes
them into its folder before it gives that its final name. They agree by these names alone, so that no thread needs to
communicate while the training does.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from pipeline.atomic import TEMPORARY_PREFIX, digest_file, discard, list_files, replacing_folder, write_json
from pipeline.errors import StorageError
from pipeline.machine import num_cores
from pipeline.training.optimization.schedules import decay_start
from pipeline.training.train_config import TrainConfig

PREFIX = "step-"
NAME = re.compile(f"{PREFIX}[0-9]{{1,18}}")
"""ASCII digits only: str.isdigit() is true of the character ², which int() refuses."""
DIGESTS = "digests.json"
POLL_SECONDS = 0.05


class CheckpointWriter:
    """Writes checkpoints in a thread of its own while training goes on, one at a time.

    What goes wrong there is raised by the next call of any method; leaving the block waits for the last write. The
    first `num_writers` processes write; in the others nothing happens.
    """

    def __init__(self, config: TrainConfig, max_steps: int, work: Path, rank: int, num_writers: int) -> None:
        self._decay_start = decay_start(config, max_steps)
        self._work, self._keep, self._rank, self._num_writers = work, config.save_total_limit, rank, num_writers
        minutes = config.save_minutes
        self._is_abandoned = threading.Event()
        self._interval_seconds = None if minutes is None else 60 * minutes
        self._saved = time.monotonic()
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def is_overdue(self) -> bool:
        """Whether a checkpoint is due by the clock (`save_minutes`). Process 0 decides. Raises the error of the last
        write."""
        if self._error is not None:
            self.wait()
        waited, limit = time.monotonic() - self._saved, self._interval_seconds
        return self._rank == 0 and limit is not None and waited >= limit

    def save(self, step: int, write: Callable[[Path], None], best: int | None = None) -> None:
        """Begin to save what `write` writes, which must not change any more; see `save_checkpoint`. Waits for the one
        before, so that memory holds no more than one."""
        self._saved = time.monotonic()
        if self._rank < self._num_writers:
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
            if self._rank == 0:
                spared, others = (best, self._decay_start), range(1, self._num_writers)
                save_checkpoint(self._work, step, write, self._keep, spared, others, self._is_abandoned)
            else:
                save_part(self._work, step, self._rank, write)
        except BaseException as error:
            self._error = error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._is_abandoned.set()
        try:
            self.wait()
        except BaseException:
            if error is None:
                raise


def save_checkpoint(
    work: Path,
    step: int,
    write: Callable[[Path], None],
    keep: int,
    spared: Iterable[int | None] = (),
    others: Iterable[int] = (),
    is_abandoned: threading.Event | None = None,
) -> None:
    """Write `work/step-<step>` atomically with `write(folder)`, what the processes `others` add, for which it waits,
    and the digest of every file; keep the newest `keep`, and those of the steps `spared`.

    A checkpoint of this step that exists already is left alone: equal steps hold equal states. Raises StorageError when
    a process cannot write its part, or `is_abandoned` is set while its part is not there.
    """
    final = checkpoint_of(work, step)
    if not final.exists():
        with replacing_folder(final) as folder:
            write(folder)
            digests = _digests_of(folder)
            for rank in others:
                part, name = part_of(work, step, rank), f"process-{rank:05d}"
                _await(part, is_abandoned)
                os.rename(part, folder / name)
                own = json.loads((folder / name / DIGESTS).read_bytes())
                (folder / name / DIGESTS).unlink()
                digests |= {f"{name}/{file}": digest for file, digest in own.items()}
            write_json(folder / DIGESTS, digests)
    for old in list_checkpoints(work)[:-keep]:
        if step_of(old) not in spared:
            _remove(old)


def save_part(work: Path, step: int, rank: int, write: Callable[[Path], None]) -> None:
    """Write what process `rank` adds to `work/step-<step>`, for process 0 to take."""
    if checkpoint_of(work, step).exists():
        return
    part = part_of(work, step, rank)
    try:
        with replacing_folder(part) as folder:
            write(folder)
            write_json(folder / DIGESTS, _digests_of(folder))
    except BaseException:
        _failure_of(part).touch()
        raise


def part_of(work: Path, step: int, rank: int) -> Path:
    """Where the part of process `rank` lies until process 0 takes it."""
    return work / f"{TEMPORARY_PREFIX}process-{rank:05d}-of-step-{step:08d}"


def _failure_of(part: Path) -> Path:
    return part.with_name(f"{part.name}-failed")


def _await(part: Path, is_abandoned: threading.Event | None) -> None:
    # By listing: on a network file system, asking for one name goes on to answer from memory for a minute.
    while part.name not in (names := os.listdir(part.parent)):
        if _failure_of(part).name in names:
            raise StorageError(f"{part.parent}: another process could not write its part of a checkpoint; it says why")
        if is_abandoned is not None and is_abandoned.is_set():
            raise StorageError(f"{part.parent}: another process ended before it wrote its part of a checkpoint")
        time.sleep(POLL_SECONDS)


def _digests_of(folder: Path) -> dict[str, str]:
    return {name: digest_file(folder / name) for name in list_files(folder)}


def checkpoint_of(work: Path, step: int) -> Path:
    """The folder of a step's checkpoint, whether or not it exists."""
    return work / f"{PREFIX}{step:08d}"


def list_checkpoints(work: Path) -> list[Path]:
    """Complete checkpoints, oldest first. Their content is not verified."""
    found = [path for path in work.glob(f"{PREFIX}*") if NAME.fullmatch(path.name) and path.is_dir()]
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
        discard(leftover)
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
        # At once, since one thread would read the parts of a large model for hours.
        with ThreadPoolExecutor(num_cores()) as pool:
            found = dict(zip(digests, pool.map(lambda name: digest_file(checkpoint / name), digests), strict=True))
        if changed := [name for name, digest in digests.items() if found[name] != digest]:
            return f"{changed[0]} does not match its digest"
    except (OSError, ValueError, RecursionError) as error:
        return f"{type(error).__name__}: {error}"
    return None


def _remove(checkpoint: Path) -> None:
    """Remove a checkpoint so that no half-removed one is ever taken for a whole one."""
    doomed = checkpoint.with_name(f"{TEMPORARY_PREFIX}{checkpoint.name}")
    os.rename(checkpoint, doomed)
    shutil.rmtree(doomed)
