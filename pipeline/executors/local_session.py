"""Jobs in processes of this machine, which live from the first job that needs them to the end of the run."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from pipeline.errors import STOP_SIGNALS, note_own_code, panics_as_errors
from pipeline.executors.base_session import BaseSession
from pipeline.executors.errors_as_bytes import as_bytes
from pipeline.executors.jobs import POLL_SECONDS, Job, run_task, use_one_thread
from pipeline.executors.task_states import TaskStates


class LocalSession(BaseSession):
    """Carries out jobs in up to `num_workers` processes of this machine."""

    def __init__(self, num_workers: int) -> None:
        self._num_workers = num_workers
        self._workers: list[_Worker] = []

    def __exit__(self, *error: object) -> None:
        self._let_go(self._workers)

    def most_processes(self, job: Job) -> int:
        return min(self._num_workers, super().most_processes(job))

    def advance(self, job: Job, states: TaskStates) -> None:
        self._hand_out(job, states)
        for worker, outcome in self._outcomes():
            number, worker.number = worker.number, None
            assert number is not None
            if outcome == _KILLED:
                self._let_go([worker])
                states.die(number, f"set run.num_workers below {self.most_processes(job)}")
            else:
                states.end(number, outcome)

    def finish(self) -> None:
        # What they make is thrown away; waiting for it could outlast the patience of whoever stops the run.
        self._let_go([worker for worker in self._workers if worker.number is not None])

    def _hand_out(self, job: Job, states: TaskStates) -> None:
        """Give each idle worker a task, and start workers while there are fewer than pay."""
        while states.waiting:
            worker = next((one for one in self._workers if one.number is None), None)
            if worker is None:
                if len(self._workers) >= self.most_processes(job):
                    return
                worker = _Worker()
                self._workers.append(worker)
            worker.start(job, states.begin())

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
        connection.send_bytes(as_bytes(_error_of(folder, number)))


def _error_of(folder: Path, number: int) -> Exception | None:
    try:
        with panics_as_errors():
            run_task(folder, number)
    except Exception as error:
        note_own_code(error)
        return error
    return None


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
