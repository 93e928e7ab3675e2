"""Base class of both sides: a state file that the others poll, and a lock that is held while the process lives."""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from pipeline import atomic
from pipeline.engine.launches.launch import Launch
from pipeline.errors import ProcessError, exit_code, in_one_line

POLL_SECONDS = 0.1
BEAT_SECONDS = 1.0

GoOn = Callable[[], str]
"""Says what to type after a process was lost, and from where the work in progress would go on."""


END_SECONDS = 5.0
"""How long processes are waited for that are stuck with one that failed, or that have not read the last word yet."""


class Member:
    """One process's place in the folder of its launch."""

    def __init__(self, launch: Launch, root: Path, config_digest: str) -> None:
        self.launch = launch
        self._folder = root / "launches" / launch.name
        self._guard = threading.Lock()
        self._go_on: GoOn = lambda: "run again to go on"
        self._state: dict[str, Any] = {
            "token": uuid.uuid4().hex,
            "process": f"process {os.getpid()} on {socket.gethostname()}",
            "pid": os.getpid(),
            "machine": launch.machine,
            "config": config_digest,
            "state": "working",
        }
        self._folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(self._path(launch.index, "lock"))

    def _hold_lock(self, timeout_seconds: float = -1) -> None:
        """Raises Timeout when another process holds it for longer."""
        while True:
            with suppress(FileNotFoundError):  # the folder was swept, as one in which nobody was yet
                self._lock.acquire(timeout=timeout_seconds)
                return

    def _path(self, index: int, kind: str) -> Path:
        return self._folder / f"process-{index}.{kind}"

    def _publish(self, **values: Any) -> None:
        with self._guard:
            self._state |= values
            self._folder.mkdir(parents=True, exist_ok=True)
            atomic.write_json(self._path(self.launch.index, "json"), self._state)

    def _read(self, index: int) -> dict[str, Any] | None:
        """What a process says of itself, with the time of its last heartbeat as `beat`."""
        try:
            with self._path(index, "json").open() as file:
                return {**json.load(file), "beat": os.fstat(file.fileno()).st_mtime_ns}
        except (OSError, ValueError):
            return None

    def _is_dead(self, index: int, state: dict[str, Any]) -> bool:
        """Whether a process on this machine is gone; False where that cannot be seen."""
        if self.launch.machine is None or state["machine"] != self.launch.machine:
            return False
        try:
            with FileLock(self._path(index, "lock"), blocking=False):
                return True
        except Timeout:
            return False
        except OSError:
            return not self._folder.exists()


def last_words(error: BaseException) -> dict[str, Any]:
    """What a process that fails with `error` publishes."""
    return {"state": "failed", "exit_code": exit_code(error), "message": in_one_line(error)}


def end_at_once(error: ProcessError) -> None:
    """End the process from a thread while its main thread is stuck where no exception reaches it."""
    for line in str(error).splitlines():
        print(f"descent: {line}", file=sys.stderr, flush=True)
    os._exit(error.exit_code)
