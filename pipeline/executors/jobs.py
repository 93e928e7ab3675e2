"""Work on shards as tasks that any process can carry out which sees the same files."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from pipeline.progress import Progress, ProgressBar

RESULT = "result.json"
JOB = "job.pickle"
PROGRESS = "progress"

REPORT_SECONDS = 0.25
"""A task writes no more often how far it is."""

POLL_SECONDS = 0.5
"""How often whoever waits for tasks looks how far they are."""

Report = Callable[[int], None]
"""Tells that a task has done as many bytes more of those that its job's `num_bytes` says it has."""

Work = Callable[[Any, Any, Path, Report], Any]
"""What is done for each task: a function of a module. Given the settings, a task, an empty folder and whom to tell of
progress, it fills the folder and gives a result of JSON values. Both depend on the settings, the task and the files
that it reads, on nothing else: any task may be done again, in another process."""


@dataclass(frozen=True)
class Job:
    """Tasks of one kind."""

    work: Work

    shared: Any
    """Settings, the same for all tasks. They travel once, and live as long as the job in each process."""

    tasks: Sequence[Any]
    """What differs: paths, positions."""

    num_bytes: Sequence[int]
    """Text that each task has, for progress and for how many processes pay."""

    folder: Path
    """A place of its own for what tasks make, which does not exist yet."""

    label: str
    """How the work is called in progress and errors."""

    def write(self) -> None:
        """Write the job to its folder, where processes find it."""
        (self.folder / PROGRESS).mkdir(parents=True)
        (self.folder / JOB).write_bytes(pickle.dumps(self))

    def output(self, number: int) -> Path:
        """The folder that a task has filled, once it is done."""
        return self.folder / f"{number:06d}"

    def result(self, number: int) -> Any:
        """What a task that is done has given."""
        return json.loads((self.output(number) / RESULT).read_text())

    def reported(self, number: int) -> int:
        """Bytes that a task has done until now, at most those that it has: the number in its file below `progress`,
        which any process can read that sees the job's folder. 0 before it begins."""
        try:
            return min(int((self.folder / PROGRESS / f"{number:06d}").read_bytes() or b"0"), self.num_bytes[number])
        except FileNotFoundError:
            return 0


class JobProgress:
    """Moves a bar by the bytes that a job's tasks have done."""

    def __init__(self, job: Job, bar: ProgressBar) -> None:
        self._job, self._bar = job, bar
        self._ended = self._shown = 0

    def end(self, number: int) -> None:
        """A task is done: it counts whole, whatever it has reported."""
        self._ended += self._job.num_bytes[number]

    def show(self, running: Iterable[int]) -> None:
        """Count the tasks that are done, and what those that run have reported."""
        done = self._ended + sum(map(self._job.reported, running))
        if done > self._shown:  # A task that is done again begins anew, a bar does not.
            self._bar.update(done - self._shown)
            self._shown = done


class Session(Protocol):
    """Who carries out jobs, one after the other."""

    def run(self, job: Job, progress: Progress) -> Iterator[tuple[Path, Any]]:
        """The folder and the result of each task, in the order of the tasks, in whatever order they are done.

        Raises what a task raises, and StorageError where the process of one was killed again and again.
        """


def run_task(folder: Path, number: int, told: Callable[[], None] = lambda: None) -> None:
    """Carry out a task of the job that was written to a folder. Its own folder is there when it is whole.

    How far it is stands in a file of the job's folder (`Job.reported`); `told` is called each time after it is written.
    """
    job = _load(folder, (folder / JOB).stat().st_ino)
    output = folder / f"{number:06d}.{os.getpid()}.{os.urandom(4).hex()}"
    output.mkdir()
    with _Reported(folder / PROGRESS / f"{number:06d}", told) as report:
        result = job.work(job.shared, job.tasks[number], output, report)
    with (output / RESULT).open("w") as file:
        json.dump(result, file)
        file.flush()
        os.fsync(file.fileno())
    try:
        os.rename(output, job.output(number))
    except OSError:
        if not job.output(number).is_dir():
            raise
        shutil.rmtree(output)  # Another process was taken for dead and was not: both have made the same.


def use_one_thread() -> None:
    """Let libraries that this process imports from now on compute with one thread: other processes work beside it."""
    os.environ.update(OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false")


class _Reported:
    """The file that says how many bytes a task has done, from none on."""

    def __init__(self, path: Path, told: Callable[[], None]) -> None:
        self._path, self._told = path, told
        self._done = 0
        self._written = time.monotonic()

    def __enter__(self) -> Report:
        self._file = os.open(self._path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
        return self._add

    def __exit__(self, *error: object) -> None:
        os.close(self._file)

    def _add(self, num_bytes: int) -> None:
        self._done += num_bytes
        if time.monotonic() - self._written >= REPORT_SECONDS:
            os.pwrite(self._file, b"%d" % self._done, 0)
            self._told()
            self._written = time.monotonic()


@lru_cache(maxsize=1)  # Models and lexicons that a job's settings hold are let go with it.
def _load(folder: Path, inode: int) -> Job:
    job: Job = pickle.loads((folder / JOB).read_bytes())
    return job
