"""Jobs as job arrays of Slurm."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

from pipeline.errors import ConfigError
from pipeline.executors.base_session import BaseSession
from pipeline.executors.jobs import Job
from pipeline.executors.remote_tasks import remote_outcome, run_remote_task, write_place
from pipeline.executors.task_states import TaskStates

MOST_ELEMENTS = 1000
"""Elements of an array. Slurm takes 1,001 unless a cluster's administrator says otherwise."""

LOOK_SECONDS = 5.0
"""How often the queue is asked for, and files are looked for."""

GONE_SECONDS = 10.0
"""An element that is not in the queue and left no result for so long was killed. File systems of clusters show files
late."""

FAREWELL_SECONDS = 60.0
"""How long elements may take to end after their last task, or after they were told to."""

LOGS = "submitit"


@dataclass
class _Element:
    """Of a job array: what carries out some tasks, one after the other."""

    left: deque[int]
    """Those that have not ended yet."""

    log: Path
    gone_since: float | None = None
    """When it was first not in the queue."""


class SlurmSession(BaseSession):
    """Carries out jobs as job arrays, each element `tasks_per_job` tasks. `parameters` are submitit's of a submission.

    Submitit submits alone. What became of a task its files tell, as its own way to ask needs an accounting database,
    which small clusters have not.
    """

    elsewhere = "Slurm"

    def __init__(self, parameters: Mapping[str, Any], tasks_per_job: int) -> None:
        self._parameters, self._tasks_per_job = parameters, tasks_per_job
        self._elements: dict[str, _Element] = {}

    def __exit__(self, *error: object) -> None:
        self.finish()

    def begin(self, job: Job) -> None:
        write_place(job.folder)

    def advance(self, job: Job, states: TaskStates) -> None:
        if states.waiting:
            self._submit(job, states)
        time.sleep(LOOK_SECONDS)
        for element in self._elements.values():
            while element.left:
                is_over, error = remote_outcome(job, element.left[0])
                if not is_over:
                    break
                states.end(element.left.popleft(), error)
        queued = _queued()
        if queued is not None:
            for name in list(self._elements):
                self._look_after(name, name in queued, states)

    def at_work(self, states: TaskStates) -> Iterable[int]:
        return [element.left[0] for element in self._elements.values() if element.left]

    def _look_after(self, name: str, is_queued: bool, states: TaskStates) -> None:
        """Give the tasks of an element to others when it is certainly not there any more."""
        element = self._elements[name]
        if is_queued:
            element.gone_since = None
            return
        element.gone_since = element.gone_since or time.monotonic()
        if not element.left:
            del self._elements[name]
        elif time.monotonic() - element.gone_since >= GONE_SECONDS:
            del self._elements[name]
            killed, *others = element.left
            for number in reversed(others):
                states.put_back(number)
            states.die(killed, f"raise run.executor.mem_gb or time_minutes ({_last_words(element.log)})")

    def _submit(self, job: Job, states: TaskStates) -> None:
        """Submit all tasks that wait as an array."""
        import submitit

        write_place(job.folder)
        size = max(self._tasks_per_job, ceil(len(states.waiting) / MOST_ELEMENTS))
        numbers = [states.begin() for _ in range(len(states.waiting))]
        chunks = [numbers[start : start + size] for start in range(0, len(numbers), size)]
        folder = job.folder.absolute()
        with _outside_of_slurm():
            try:
                executor = submitit.SlurmExecutor(folder / LOGS)
                given = {name: value for name, value in self._parameters.items() if value is not None}
                setup = ["export OMP_NUM_THREADS=1"]  # Before numpy is imported.
                executor.update_parameters(
                    job_name="descent", setup=setup, stderr_to_stdout=True, use_srun=False, **given
                )
                submitted = executor.map_array(_run_tasks, [folder] * len(chunks), chunks)
            except (submitit.core.utils.FailedJobError, submitit.core.utils.FailedSubmissionError) as error:
                raise ConfigError(f"run.executor: {' '.join(str(error).split())}") from None
        for one, chunk in zip(submitted, chunks, strict=True):
            self._elements[one.job_id] = _Element(deque(chunk), one.paths.stdout)

    def finish(self) -> None:
        """Wait until no element is left, as they still write their logs after their last task. Those that work at what
        nobody wants are told to end."""
        deadline = time.monotonic() + FAREWELL_SECONDS
        if self._elements:
            subprocess.run(["scancel", *self._elements], check=False, capture_output=True)
        while self._elements and time.monotonic() < deadline:
            queued = _queued()
            if queued is not None:
                self._elements = {name: one for name, one in self._elements.items() if name in queued}
            if self._elements:
                time.sleep(1)
        self._elements.clear()


def _run_tasks(folder: Path, numbers: Sequence[int]) -> None:
    """What an element does. Tasks that have ended are left out: Slurm itself may start it anew."""
    # Submitit ignores the one signal and takes the other, which says that time is nearly over, for an error.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    for number in numbers:
        run_remote_task(folder, number)


def _queued() -> set[str] | None:
    """Elements of ours that wait or run; None where Slurm does not answer."""
    asked = subprocess.run(
        ["squeue", "--noheader", "--array", "--me", "--format=%i %t"], check=False, capture_output=True, text=True
    )
    if asked.returncode != 0:
        return None
    pairs = [line.split() for line in asked.stdout.splitlines()]
    return {name for name, state in pairs if state != "CG"}  # Completing: its processes have ended.


def _last_words(log: Path) -> str:
    try:
        lines = log.read_text(errors="replace").split("\n")
    except OSError:
        return "it left no log"
    return next((f"its log ends: {line.strip()}" for line in reversed(lines) if line.strip()), "its log is empty")


@contextmanager
def _outside_of_slurm() -> Iterator[None]:
    """Without what a job of Slurm, in which this run may be, would hand down to the jobs that it submits."""
    own = {name: value for name, value in os.environ.items() if name.startswith(("SLURM_", "SBATCH_"))}
    own.pop("SLURM_CONF", None)
    for name in own:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(own)
