"""Processes of this machine."""

from __future__ import annotations

from pipeline.executors.base_executor import Executor
from pipeline.executors.local_session import LocalSession


class Local(Executor, type="local"):
    """Processes of this machine: run.num_workers of them."""

    def session(self, num_workers: int) -> LocalSession:
        return LocalSession(num_workers)
