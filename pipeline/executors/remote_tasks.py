"""Tasks in processes that the run has not started: on a cluster, perhaps on another machine.

All that they and the run share is the job's folder, on a file system that both see.
"""

from __future__ import annotations

import json
import os
import pickle
import socket
import sys
import time
from pathlib import Path

from pipeline import atomic
from pipeline.errors import StorageError, note_own_code, panics_as_errors
from pipeline.executors.errors_as_bytes import as_bytes
from pipeline.executors.jobs import JOB, Job, run_task, use_one_thread

PLACE = "place.json"
"""Where the run works: its working directory, and where its modules are."""

PATIENCE_SECONDS = 60.0
"""How late a shared file system may show a folder to another machine."""


def write_place(folder: Path) -> None:
    """Note in a job's folder what processes elsewhere have to know of this one."""
    place = {"directory": os.getcwd(), "path": [os.path.abspath(entry) for entry in sys.path]}
    atomic.write_bytes(folder / PLACE, json.dumps(place).encode())


def run_remote_task(folder: Path, number: int) -> str | None:
    """Carry out a task of the job that was written to a folder. What it raises becomes a file there.

    Gives the name of this machine where it cannot see the folder. When the folder goes while it works, nobody wants the
    task any more, and it ends without a word.
    """
    if not _appears(folder / JOB):
        return socket.gethostname()
    try:
        _settle(folder)
        with panics_as_errors():
            run_task(folder, number)
    except Exception as error:
        if folder.is_dir():
            note_own_code(error)
            atomic.write_bytes(_error_file(folder, number), as_bytes(error))
    return None


def remote_outcome(job: Job, number: int) -> tuple[bool, BaseException | None]:
    """Whether a task has ended, and the error that it has raised."""
    if job.output(number).is_dir():
        return True, None
    try:
        return True, pickle.loads(_error_file(job.folder, number).read_bytes())
    except FileNotFoundError:
        return False, None


def unseen(job: Job, host: str) -> StorageError:
    """The error for a machine that does not see the job's folder."""
    return StorageError(
        f"{job.folder}: {host} does not see this folder; run.workspace has to be on a file system that all machines of "
        "run.executor share, at the same path"
    )


def _appears(path: Path) -> bool:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not path.exists():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.5)
    return True


def _settle(folder: Path) -> None:
    """Work where the run works, find its modules, and use one thread, as many processes share a machine."""
    use_one_thread()
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    place = json.loads((folder / PLACE).read_text())
    os.chdir(place["directory"])
    sys.path += [entry for entry in place["path"] if entry not in sys.path]


def _error_file(folder: Path, number: int) -> Path:
    return folder / f"{number:06d}.error"
