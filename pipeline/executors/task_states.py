"""What becomes of the tasks of a job, whoever carries them out."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator

from pipeline.errors import StorageError
from pipeline.executors.jobs import Job, JobProgress

MOST_DEATHS = 3
"""A task whose process was killed so often is not tried again."""


class TaskStates:
    """Which tasks wait, run, are done, failed, or died with their process.

    A task that died is done again, at first of all. One that failed would fail again: those behind it are not begun.
    """

    def __init__(self, job: Job, shown: JobProgress, say: Callable[[str], None]) -> None:
        self._job, self._shown, self._say = job, shown, say
        self.waiting = deque(range(len(job.tasks)))
        self.running: set[int] = set()
        self._ended: dict[int, BaseException | None] = {}
        self._deaths: Counter[int] = Counter()
        self._next = 0

    @property
    def is_over(self) -> bool:
        """Whether all tasks were given by `in_order`."""
        return self._next == len(self._job.tasks)

    def begin(self) -> int:
        """The next task that waits runs from now on."""
        number = self.waiting.popleft()
        self.running.add(number)
        return number

    def end(self, number: int, error: BaseException | None) -> None:
        """A task is done, or has raised an error."""
        self.running.remove(number)
        self._ended[number] = error
        if error is None:
            self._shown.end(number)
        else:
            self.waiting = deque(other for other in self.waiting if other < number)

    def put_back(self, number: int) -> None:
        """A task that was to run was not begun: it waits again."""
        self.running.remove(number)
        self.waiting.appendleft(number)

    def die(self, number: int, remedy: str) -> None:
        """The process of a task was killed: it waits again. The last time raises StorageError with a remedy."""
        self.put_back(number)
        self._deaths[number] += 1
        shard = f"shard {number + 1} of {len(self._job.tasks)} ({self._job.label})"
        if self._deaths[number] == MOST_DEATHS:
            raise StorageError(
                f"a worker process was killed {MOST_DEATHS} times at {shard}, probably for lack of memory; {remedy}"
            )
        self._say(f"a worker process was killed at {shard}, which is done again")

    def in_order(self) -> Iterator[int]:
        """Tasks that are done, each once, in the order of the job, as far as all before them are done. Raises the first
        error in this order."""
        while self._next in self._ended:
            number, self._next = self._next, self._next + 1
            error = self._ended.pop(number)
            if error is not None:
                raise error
            yield number
