"""What killed launches leave: swept by the next run, whoever starts it."""

from __future__ import annotations

import json
import socket
import time
from contextlib import ExitStack, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from pipeline.atomic import TEMPORARY_PREFIX

STALE_SECONDS = 86_400.0
"""After so long without a heartbeat a launch on other machines, where locks may not be seen, is over."""


def sweep(root: Path) -> None:
    """Remove the folders of launches in a workspace of which no process lives."""
    launches = root / "launches"
    if launches.is_symlink():
        return
    for folder in launches.glob("*"):
        if folder.is_dir() and not folder.is_symlink():
            with suppress(OSError, Timeout):
                _sweep_one(folder)


def _sweep_one(folder: Path) -> None:
    """Remove one folder. Raises Timeout when a process lives. The locks are held meanwhile, so that no process of a
    launch of this name comes."""
    with ExitStack() as held:
        for lock in {*folder.glob("process-*.lock"), folder / "process-0.lock"}:
            held.enter_context(FileLock(lock, blocking=False))
        if _locks_tell(folder) or time.time() - _last_sign(folder) > STALE_SECONDS:
            for path in (*folder.glob("process-*"), *folder.glob(f"{TEMPORARY_PREFIX}*")):
                path.unlink()
            folder.rmdir()


def _locks_tell(folder: Path) -> bool:
    """Whether all processes were of this machine, where a free lock means a dead process."""
    for path in folder.glob("process-*.json"):
        with suppress(ValueError, TypeError, KeyError):
            if not str(json.loads(path.read_bytes())["process"]).endswith(f" on {socket.gethostname()}"):
                return False
    return True


def _last_sign(folder: Path) -> float:
    return max(path.stat().st_mtime for path in (folder, *folder.glob("process-0.json")))
