"""What every executor has."""

from __future__ import annotations

from abc import abstractmethod

from pipeline.executors.base_session import BaseSession
from pipeline.features import Feature


class Executor(Feature):
    """Says where work on shards is done."""

    def check(self) -> None:
        """Raises ConfigError where it lacks what it needs on this machine. Called before the first stage."""
        return

    @abstractmethod
    def session(self, num_workers: int) -> BaseSession:
        """Who carries out jobs, for all stages of a run, with as many processes on this machine. A context manager;
        processes start at the first job that needs them."""
