"""Work in several processes: errors arrive whole, and a killed parent leaves no process behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.corpus.shards import join_files

SCRIPT = """
import os, sys, time
from pathlib import Path
from pipeline.corpus.shards import Tally, map_shards, WORKER_BYTES
from pipeline.errors import BadDataError
from pipeline.progress import Progress

def count(number):
    tally = Tally()
    tally.add("numbers", "sum", number)
    return tally

def fail(number):
    raise BadDataError(f"number {number} is bad")

def die(number):
    os._exit(9)

def hang(number):
    Path(f"worker-{number}").write_text(str(os.getpid()))
    time.sleep(60)

if __name__ == "__main__":
    work = {"count": count, "fail": fail, "die": die, "hang": hang}[sys.argv[1]]
    try:
        print(map_shards(work, [(1,), (2,)], 2 * WORKER_BYTES, 2, Progress("test"), "counting").of("numbers"))
    except Exception as error:
        print(f"{type(error).__name__}: {error}")
"""


def start(folder: Path, work: str) -> subprocess.Popen[str]:
    script = folder / "script.py"
    script.write_text(SCRIPT)
    return subprocess.Popen(
        [sys.executable, script, work], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


@pytest.mark.parametrize(
    ("work", "printed"),
    [
        ("count", "{'sum': 3}"),
        ("fail", "BadDataError: number 1 is bad"),
        ("die", "StorageError: a worker process was killed, probably for lack of memory; set run.num_workers below 2"),
    ],
)
def test_results_and_errors_come_back(tmp_path: Path, work: str, printed: str) -> None:
    output, _ = start(tmp_path, work).communicate(timeout=60)
    assert output == f"{printed}\n"


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_workers_end_with_a_killed_parent(tmp_path: Path) -> None:
    process = start(tmp_path, "hang")
    deadline = time.monotonic() + 30
    while len(files := [path for path in tmp_path.glob("worker-*") if path.stat().st_size]) < 2:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    workers = [int(path.read_text()) for path in files]
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    while any(is_running(pid) for pid in workers):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_join_files_keeps_the_order(tmp_path: Path) -> None:
    for name in "ba":
        (tmp_path / name).write_text(name)
    join_files([tmp_path / "b", tmp_path / "a"], tmp_path / "joined")
    assert (tmp_path / "joined").read_text() == "ba"
