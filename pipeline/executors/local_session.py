"""Jobs in processes of this machine, which live from the first job that needs them to the end of the run."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
from collections import Counter, deque
from collections.abc import Iterator
from functools import partial
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Self

from pipeline.errors import STOP_SIGNALS, StorageError, note_own_code, panics_as_errors
from pipeline.executors.jobs import POLL_SECONDS, Job, JobProgress, run_task, use_one_thread
from pipeline.progress import Progress

WORKER_BYTES = 8_000_000
"""Text for which starting one more process pays: about a second of work."""

MOST_DEATHS = 3
"""A task whose process was killed so often is not tried again."""


class LocalSession:
    """Carries out jobs in up to `num_workers` processes; in this one where one is enough for a job's text, as starting
    others would cost more than it saves."""

    def __init__(self, num_workers: int) -> None:
        self._num_workers = num_workers
        self._workers: list[_Worker] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._let_go(self._workers)

    def run(self, job: Job, progress: Progress) -> Iterator[tuple[Path, Any]]:
        """The folder and the result of each task, in the order of the tasks: see `jobs.Session`."""
        job.write()
        num_bytes = sum(job.num_bytes)
        num_processes = min(self._num_workers, len(job.tasks), num_bytes // WORKER_BYTES)
        with progress.bar(job.label, total=num_bytes, unit="B") as bar:
            shown = JobProgress(job, bar)
            done = self._run_in_processes(job, num_processes, shown) if num_processes > 1 else _run_here(job, shown)
            for number in done:
                yield job.output(number), job.result(number)

    def _run_in_processes(self, job: Job, num_processes: int, shown: JobProgress) -> Iterator[int]:
        """Numbers of tasks in their order, each as soon as it and those before it are done. Of several errors the
        first in this order is raised."""
        waiting = deque(range(len(job.tasks)))
        deaths: Counter[int] = Counter()
        done: set[int] = set()
        failed: dict[int, BaseException] = {}
        next_number = 0
        try:
            while next_number < len(job.tasks):
                self._hand_out(job, waiting, num_processes)
                for worker, outcome in self._outcomes():
                    number, worker.number = worker.number, None
                    assert number is not None
                    if isinstance(outcome, BaseException):
                        failed[number] = outcome
                        waiting = deque(other for other in waiting if other < number)
                    elif outcome == _KILLED:
                        self._let_go([worker])
                        deaths[number] += 1
                        if deaths[number] == MOST_DEATHS:
                            raise StorageError(
                                f"a worker process was killed {MOST_DEATHS} times at shard {number + 1} of "
                                f"{len(job.tasks)} ({job.label}), probably for lack of memory; set run.num_workers "
                                f"below {num_processes}"
                            )
                        waiting.appendleft(number)
                    else:
                        done.add(number)
                        shown.end(number)
                shown.show(worker.number for worker in self._workers if worker.number is not None)
                while next_number in done:
                    yield next_number
                    next_number += 1
                if next_number in failed:
                    raise failed[next_number]
        finally:
            # What they make is thrown away; waiting for it could outlast the patience of whoever stops the run.
            self._let_go([worker for worker in self._workers if worker.number is not None])

    def _hand_out(self, job: Job, waiting: deque[int], num_processes: int) -> None:
        """Give each idle worker a task, and start workers while there are fewer than asked for."""
        while waiting:
            worker = next((one for one in self._workers if one.number is None), None)
            if worker is None:
                if len(self._workers) >= num_processes:
                    return
                worker = _Worker()
                self._workers.append(worker)
            worker.start(job, waiting.popleft())

    def _outcomes(self) -> list[tuple[_Worker, Any]]:
        """Wait for tasks that end, but no longer than POLL_SECONDS. Gives their workers, each with None, the error that
        was raised, or _KILLED."""
        busy = [worker for worker in self._workers if worker.number is not None]
        sources = [source for worker in busy for source in (worker.connection, worker.process.sentinel)]
        ready = wait(sources, POLL_SECONDS)
        return [(one, one.outcome()) for one in busy if one.connection in ready or one.process.sentinel in ready]

    def _let_go(self, workers: list[_Worker]) -> None:
        for worker in workers:
            worker.process.kill()
        for worker in workers:
            worker.process.join()
            worker.connection.close()
        self._workers = [worker for worker in self._workers if worker not in workers]


def _run_here(job: Job, shown: JobProgress) -> Iterator[int]:
    for number in range(len(job.tasks)):
        run_task(job.folder, number, partial(shown.show, [number]))
        shown.end(number)
        shown.show([])
        yield number


_KILLED = "killed"


class _Worker:
    """A process that carries out one task at a time."""

    def __init__(self) -> None:
        # Forking a process that has threads (pyarrow starts some) can deadlock; a server process has none.
        context = multiprocessing.get_context("forkserver")
        self.connection, other = context.Pipe()
        self.process = context.Process(target=_serve, args=(other,), daemon=True)
        self.process.start()
        other.close()
        self.number: int | None = None

    def start(self, job: Job, number: int) -> None:
        """Begin a task. A process that is dead already says so as its outcome."""
        self.number = number
        try:
            self.connection.send((job.folder, number))
        except OSError:
            self.process.join()

    def outcome(self) -> Any:
        """What came of the task: None, the error that was raised, or _KILLED."""
        try:
            return pickle.loads(self.connection.recv_bytes())
        except (EOFError, OSError):
            return _KILLED


def _serve(connection: Connection) -> None:
    _prepare_worker()
    while True:
        try:
            folder, number = connection.recv()
        except EOFError:
            return
        connection.send_bytes(_packed(_error_of(folder, number)))


def _error_of(folder: Path, number: int) -> Exception | None:
    try:
        with panics_as_errors():
            run_task(folder, number)
    except Exception as error:
        note_own_code(error)
        return error
    return None


def _packed(error: Exception | None) -> bytes:
    """An error as bytes, or one that says the same where it cannot travel."""
    try:
        packed = pickle.dumps(error)
        pickle.loads(packed)
    except Exception:
        other = RuntimeError(f"{type(error).__name__}: {error}")
        for note in getattr(error, "__notes__", ()):
            other.add_note(note)
        return pickle.dumps(other)
    return packed


def _prepare_worker() -> None:
    """Use one thread. Ignore signals, which the parent handles. Exit when the parent exits, even if it was killed."""
    use_one_thread()
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def end_with_parent() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
