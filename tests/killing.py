"""Whole runs that are killed at random moments, of one process or of two under a launcher.

Children are forked from a server that has imported torch: most of what a kill falls into is work. A moment is a write,
rename or removal of a file, counted, or a little later.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from harness import PATIENCE_SECONDS, Project, default_signals
from training.tiny import metrics, server

from pipeline.atomic import digest_file

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod")
LATEST_SECONDS = 0.2
SAID = "said.txt"
FAILED = 1
"""What torchrun makes of every failure."""

ONE, ALL, LAUNCHER = "one", "all", "launcher"
"""Who is killed: the process itself, with it the launcher and all that it started, the launcher alone."""


@dataclass(frozen=True)
class Kill:
    """SIGKILL, by process `index`, `delay_seconds` after its change number `change` of the file system."""

    index: int
    change: int
    who: str
    delay_seconds: float


def kill_until_whole(project: Project, count: int, random: Random, changes: list[int]) -> int:
    """Kill runs at random moments until one comes through, and say how many were killed. `changes` is how often each
    process of a run that has everything to do changes the file system."""
    num_killed = 0
    while (code := launch(project, count, _random_kill(random, changes))) != 0:
        assert code in (-signal.SIGKILL, FAILED), (code, (project.folder / SAID).read_text())
        num_killed += 1
    return num_killed


def _random_kill(random: Random, changes: list[int]) -> Kill:
    """In the first half of a whole run, so that most runs come to it; often at once, else a little later."""
    who = random.choice([ONE, ONE, ALL, LAUNCHER]) if len(changes) > 1 else ONE
    delay = random.choice([0.0, random.uniform(0, LATEST_SECONDS)])
    index = random.randrange(len(changes))
    return Kill(index, random.randint(1, changes[index] // 2), who, delay)


def launch(project: Project, count: int, kill: Kill | None = None) -> int:
    """Run the project in `count` processes, and wait until none of them is left. Returns the exit code of the launcher,
    or of the one process, negative for a signal."""
    (project.folder / SAID).unlink(missing_ok=True)
    child = server.Process(target=_launcher, args=(project.folder, count, _free_port(), kill))
    child.start()
    child.join(PATIENCE_SECONDS)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while _lives(child.pid):
        assert time.monotonic() < deadline, "a process hangs"
        time.sleep(0.02)
    assert child.exitcode is not None, "the launcher hangs"
    return child.exitcode


def changes_of(project: Project, index: int) -> int:
    """How often a process changed the file system in the last run that none was killed in."""
    return int((project.folder / f"changes-{index}").read_text())


def remains(project: Project) -> dict[str, Any]:
    """What a workspace holds after a whole run: every path, with the digest of what must not differ, and the records of
    its training, without what was measured by the clock."""
    found: dict[str, Any] = {}
    checkpoints = sorted(project.workspace.glob("checkpoints/*/step-*"))
    # Where a launcher ended, a checkpoint was saved; what a source file is known by takes two seconds to be kept.
    passed_over = {*checkpoints[:-1], project.workspace / "digests.json"}
    for path in sorted(project.workspace.rglob("*")):
        if "events.out.tfevents" in path.name or passed_over & {path, *path.parents}:
            continue
        is_whole = path.suffix in (".safetensors", ".parquet", ".ds", ".index") and path.is_file()
        found[path.relative_to(project.workspace).as_posix()] = digest_file(path) if is_whole else path.is_dir()
    return {"digests": project.digests(), "records": metrics(project.artifact("train")), "paths": found}


def _launcher(folder: Path, count: int, port: int, kill: Kill | None) -> None:
    """What torchrun does: start processes, and end the others when one fails."""
    os.setsid()
    os.chdir(folder)
    default_signals()
    said = os.open(SAID, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(said, 1)
    os.dup2(said, 2)
    if count == 1:
        _work(0, kill)
    os.environ.update({"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "none"})
    os.environ.update({"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count), "GROUP_RANK": "0"})
    os.environ.update({"ACCELERATE_USE_CPU": "true", "GLOO_SOCKET_IFNAME": "lo"})
    pids: list[int] = []
    for index in range(count):
        pids.append(os.fork())
        if pids[-1] == 0:
            os.environ.update({"RANK": str(index), "LOCAL_RANK": str(index)})
            _work(index, kill)
    failed = False
    for _ in range(count):
        _, status = os.wait()
        if status != 0 and not failed:
            failed = True
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)
    os._exit(FAILED if failed else 0)


def _work(index: int, kill: Kill | None) -> None:
    import torch

    from pipeline.main import main

    torch.set_num_threads(1)
    changes = _count_changes(kill if kill is not None and kill.index == index else None)
    try:
        main(["run", "tiny.yaml"])
    except SystemExit as end:
        Path(f"changes-{index}").write_text(str(changes()))
        sys.stderr.flush()
        os._exit(int(end.code or 0))
    os._exit(0)


def _count_changes(kill: Kill | None) -> Callable[[], int]:
    count = 0

    def strike() -> None:
        if kill is not None and kill.who == ALL:
            os.killpg(0, signal.SIGKILL)
        os.kill(os.getppid() if kill is not None and kill.who == LAUNCHER else os.getpid(), signal.SIGKILL)

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        if event in CHANGES or (event == "open" and arguments[2] & WRITING):
            count += 1
            if kill is not None and count == kill.change:
                if kill.delay_seconds:
                    threading.Timer(kill.delay_seconds, strike).start()
                else:
                    strike()

    sys.addaudithook(note)
    return lambda: count


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _lives(group: int | None) -> bool:
    try:
        os.killpg(group or 0, 0)
    except ProcessLookupError:
        return False
    return True
