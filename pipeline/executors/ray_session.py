"""Jobs on a Ray cluster."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil
from typing import Any

from pipeline.errors import STOP_SIGNALS, ConfigError
from pipeline.executors.base_session import BaseSession
from pipeline.executors.jobs import POLL_SECONDS, Job
from pipeline.executors.remote_tasks import remote_outcome, run_remote_task, unseen, write_place
from pipeline.executors.task_states import TaskStates

OBJECT_STORE_BYTES = 80_000_000
"""Shared memory of a cluster of our own: about the least that Ray accepts, as no data pass through it."""

FAREWELL_SECONDS = 10.0
"""How long tasks that nobody wants any more may take to end."""


class RaySession(BaseSession):
    """Carries out jobs on the cluster at an address, or on one of its own with `num_workers` workers. Connects at the
    first job that needs it."""

    elsewhere = "Ray"

    def __init__(self, address: str | None, num_cpus: float, num_workers: int) -> None:
        self._address, self._num_cpus, self._num_workers = address, num_cpus, num_workers
        self._remote: Any = None
        self._out: dict[Any, int] = {}

    def __exit__(self, *error: object) -> None:
        if self._remote is not None:
            import ray

            ray.shutdown()

    def begin(self, job: Job) -> None:
        write_place(job.folder)
        if self._remote is None:
            self._remote = self._connect()

    def advance(self, job: Job, states: TaskStates) -> None:
        with _signals_afterwards():
            self._advance(job, states)

    def _advance(self, job: Job, states: TaskStates) -> None:
        import ray

        while states.waiting and len(self._out) < 2 * self._num_slots():
            number = states.begin()
            self._out[self._remote.remote(job.folder.absolute(), number)] = number
        ended, _ = ray.wait(list(self._out), num_returns=1, timeout=POLL_SECONDS)
        for reference in ended:
            self._record(job, states, reference)

    def _record(self, job: Job, states: TaskStates, reference: Any) -> None:
        import ray

        number = self._out.pop(reference)
        host = None
        try:
            host = ray.get(reference)
        except (ray.exceptions.RayTaskError, ray.exceptions.RuntimeEnvSetupError) as error:
            reason = getattr(error, "cause", error)
            raise ConfigError(
                f"run.executor: a worker of Ray cannot work: {type(reason).__name__}: {reason}; all machines of the "
                "cluster need the packages of this one"
            ) from None
        except ray.exceptions.RayError:  # Its process was killed, or its machine is gone.
            pass
        if host is not None:
            raise unseen(job, host)
        is_over, failure = remote_outcome(job, number)
        if is_over:
            states.end(number, failure)
        else:
            states.die(number, "set run.num_workers lower or run.executor.num_cpus higher, so that fewer run at once")

    def finish(self) -> None:
        if not self._out:
            return
        import ray

        for reference in self._out:
            ray.cancel(reference, force=True)
        ray.wait(list(self._out), num_returns=len(self._out), timeout=FAREWELL_SECONDS)
        self._out.clear()

    def _num_slots(self) -> int:
        """Tasks that the cluster can run at once."""
        import ray

        return max(1, int(ray.cluster_resources().get("CPU", 0) / self._num_cpus))

    def _connect(self) -> Any:
        """Gives what carries out a task on the cluster."""
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
        import ray

        own: dict[str, Any] = {
            "num_cpus": ceil(self._num_workers * self._num_cpus),
            "object_store_memory": OBJECT_STORE_BYTES,
            "include_dashboard": False,
            "_node_ip_address": "127.0.0.1",
        }
        with _signals_afterwards():
            try:
                ray.init(
                    self._address or "local",
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    **(own if self._address is None else {}),
                )
            except Exception as error:
                reason = " ".join(str(error).split())
                where = f"no Ray cluster at {self._address}" if self._address else "Ray does not start on this machine"
                raise ConfigError(f"run.executor: {where}: {reason}") from None
        # Ray would print pages about each process that ends; the session says it in a line.
        if (worker := sys.modules.get("ray._private.worker")) is not None:
            vars(worker)["print_to_stdstream"] = lambda *given, **named: None
        # Deaths are counted here, and their words are the same for all executors.
        return ray.remote(num_cpus=self._num_cpus, max_retries=0)(run_remote_task)


@contextmanager
def _signals_afterwards() -> Iterator[None]:
    """Let signals that come meanwhile do what they do when it is over: what their handlers raise, Ray would turn into
    an error of its own. Handlers that Ray sets are taken back."""
    if threading.current_thread() is not threading.main_thread():  # In no other does Python let them be set.
        yield
        return
    handlers = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    came: list[int] = []
    for stop, handler in handlers.items():
        if callable(handler):
            signal.signal(stop, lambda number, frame: came.append(number))
    try:
        yield
    except SystemExit:  # Ray's handler of SIGTERM, while it starts.
        came.append(signal.SIGTERM)
    finally:
        for stop, handler in handlers.items():
            signal.signal(stop, handler)
    for number in came:
        signal.raise_signal(number)
