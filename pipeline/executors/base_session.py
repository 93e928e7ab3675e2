"""What sessions of all executors have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Self

from pipeline.executors.jobs import Job, JobProgress, run_task
from pipeline.executors.task_states import TaskStates
from pipeline.progress import Progress

WORKER_BYTES = 8_000_000
"""Text for which starting one more process pays: about a second of work."""


class BaseSession(ABC):
    """Carries out jobs in other processes; in this one where one is enough for a job's text, as others would cost more
    than they save."""

    elsewhere: str | None = None
    """Where jobs are done that are not done here, in words; None for processes of this machine."""

    _has_told = False

    def __enter__(self) -> Self:
        return self

    @abstractmethod
    def __exit__(self, *error: object) -> None:
        """Let all processes go."""

    def run(self, job: Job, progress: Progress) -> Iterator[tuple[Path, Any]]:
        """The folder and the result of each task, in the order of the tasks: see `jobs.Session`."""
        job.write()
        with progress.bar(job.label, total=sum(job.num_bytes), unit="B") as bar:
            shown = JobProgress(job, bar)
            elsewhere = self.most_processes(job) > 1
            if self.elsewhere and not elsewhere and not self._has_told:
                self._has_told = True
                least = f"{2 * WORKER_BYTES // 10**6} MB of text"
                progress.say(
                    f"small jobs (less than {least}, or one task) are done by the run, not on {self.elsewhere}"
                )
            for number in self._run_elsewhere(job, shown, progress.say) if elsewhere else _run_here(job, shown):
                yield job.output(number), job.result(number)

    def most_processes(self, job: Job) -> int:
        """How many processes pay for a job."""
        return min(len(job.tasks), sum(job.num_bytes) // WORKER_BYTES)

    def _run_elsewhere(self, job: Job, shown: JobProgress, say: Callable[[str], None]) -> Iterator[int]:
        """Numbers of tasks in their order, each as soon as it and those before it are done. Of several errors the
        first in this order is raised."""
        states = TaskStates(job, shown, say)
        try:
            self.begin(job)
            while not states.is_over:
                self.advance(job, states)
                shown.show(self.at_work(states))
                yield from states.in_order()
        finally:
            self.finish()

    def begin(self, job: Job) -> None:
        """Make ready for a job that was written."""
        return

    @abstractmethod
    def advance(self, job: Job, states: TaskStates) -> None:
        """Begin tasks that wait, and look for a moment what becomes of those that run."""

    def at_work(self, states: TaskStates) -> Iterable[int]:
        """Of the tasks that run those that may have more to report."""
        return states.running

    @abstractmethod
    def finish(self) -> None:
        """End what still runs of a job that is over, has failed or is interrupted."""


def _run_here(job: Job, shown: JobProgress) -> Iterator[int]:
    for number in range(len(job.tasks)):
        run_task(job.folder, number, partial(shown.show, [number]))
        shown.end(number)
        shown.show([])
        yield number
