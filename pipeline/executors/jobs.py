"""Work on shards as tasks that any process can carry out which sees the same files."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from pipeline.progress import Progress

RESULT = "result.json"
JOB = "job.pickle"


Work = Callable[[Any, Any, Path], Any]
"""What is done for each task: a function of a module. Given the settings, a task and an empty folder, it fills the
folder and gives a result of JSON values. Both depend on the settings, the task and the files that it reads, on nothing
else: any task may be done again, in another process."""


@dataclass(frozen=True)
class Job:
    """Tasks of one kind."""

    work: Work

    shared: Any
    """Settings, the same for all tasks. They travel once, and live as long as the job in each process."""

    tasks: Sequence[Any]
    """What differs: paths, positions."""

    num_bytes: int
    """Text that all tasks have together."""

    folder: Path
    """A place of its own for what tasks make, which does not exist yet."""

    label: str
    """How the work is called in progress and errors."""

    def write(self) -> None:
        """Write the job to its folder, where processes find it."""
        self.folder.mkdir(parents=True)
        (self.folder / JOB).write_bytes(pickle.dumps(self))

    def output(self, number: int) -> Path:
        """The folder that a task has filled, once it is done."""
        return self.folder / f"{number:06d}"

    def result(self, number: int) -> Any:
        """What a task that is done has given."""
        return json.loads((self.output(number) / RESULT).read_text())


class Session(Protocol):
    """Who carries out jobs, one after the other."""

    def run(self, job: Job, progress: Progress) -> Iterator[tuple[Path, Any]]:
        """The folder and the result of each task, in the order of the tasks, in whatever order they are done.

        Raises what a task raises, and StorageError where the process of one was killed again and again.
        """


def run_task(folder: Path, number: int) -> None:
    """Carry out a task of the job that was written to a folder. Its own folder is there when it is whole."""
    job = _load(folder, (folder / JOB).stat().st_ino)
    output = folder / f"{number:06d}.{os.getpid()}.{os.urandom(4).hex()}"
    output.mkdir()
    result = job.work(job.shared, job.tasks[number], output)
    with (output / RESULT).open("w") as file:
        json.dump(result, file)
    try:
        os.rename(output, job.output(number))
    except OSError:
        if not job.output(number).is_dir():
            raise
        shutil.rmtree(output)  # Another process was taken for dead and was not: both have made the same.


@lru_cache(maxsize=1)  # Models and lexicons that a job's settings hold are let go with it.
def _load(folder: Path, inode: int) -> Job:
    job: Job = pickle.loads((folder / JOB).read_bytes())
    return job
