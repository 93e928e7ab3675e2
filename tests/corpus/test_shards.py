"""Work in several processes: errors arrive whole, and a killed parent leaves no process behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import PATIENCE_SECONDS, default_signals, wait_until

from pipeline.corpus.shards import join_files

SCRIPT = """
import json, os, sys, time
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

def fail_beside_one_that_hangs(number):
    fail(number) if number == 1 else time.sleep(3600)

def panic(number):
    from tokenizers import Tokenizer
    model = {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}
    malformed = {"version": "1.0", "model": model, "pre_tokenizer": {"type": "FixedLength", "length": 0}}
    Tokenizer.from_str(json.dumps(malformed)).encode("text")

def leave(number):
    sys.exit(0)

def die(number):
    os._exit(9)

def hang(number):
    Path(f"worker-{number}").write_text(str(os.getpid()))
    time.sleep(3600)

if __name__ == "__main__":
    work = globals()[sys.argv[1]]
    try:
        print(map_shards(work, [(1,), (2,)], 2 * WORKER_BYTES, 2, Progress("test"), "counting").of("numbers"))
    except Exception as error:
        print(f"{type(error).__name__}: {error}")
"""


def start(folder: Path, work: str, prepare: Callable[[], object] = default_signals) -> subprocess.Popen[str]:
    script = folder / "script.py"
    script.write_text(SCRIPT)
    return subprocess.Popen(
        [sys.executable, script, work],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=prepare,
    )


@pytest.mark.parametrize(
    ("work", "printed"),
    [
        ("count", "{'sum': 3}"),
        ("fail", "BadDataError: number 1 is bad"),
        ("panic", "Panic: chunk size must be non-zero"),
        ("leave", "Panic: SystemExit: 0"),
        ("die", "StorageError: a worker process was killed, probably for lack of memory; set run.num_workers below 2"),
    ],
)
def test_results_and_errors_come_back(tmp_path: Path, work: str, printed: str) -> None:
    output, _ = start(tmp_path, work).communicate(timeout=PATIENCE_SECONDS)
    assert output == f"{printed}\n"


def test_a_worker_that_hangs_ends_with_another_that_fails_whatever_signals_are_ignored(tmp_path: Path) -> None:
    process = start(tmp_path, "fail_beside_one_that_hangs", lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN))
    assert process.communicate(timeout=PATIENCE_SECONDS) == ("BadDataError: number 1 is bad\n", "")


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_workers_end_with_a_killed_parent(tmp_path: Path) -> None:
    process = start(tmp_path, "hang")
    wait_until(lambda: sum(path.stat().st_size > 0 for path in tmp_path.glob("worker-*")) == 2, process)
    workers = [int(path.read_text()) for path in tmp_path.glob("worker-*")]
    # A terminal or a service signals all processes at once: what becomes of the work is the parent's to say.
    for pid in workers:
        status = Path(f"/proc/{pid}/status").read_text()
        ignored = int(status.partition("SigIgn:")[2].split()[0], 16)
        assert all(ignored >> number - 1 & 1 for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    wait_until(lambda: not any(is_running(pid) for pid in workers))


def test_join_files_keeps_the_order(tmp_path: Path) -> None:
    for name in "ba":
        (tmp_path / name).write_text(name)
    join_files([tmp_path / "b", tmp_path / "a"], tmp_path / "joined")
    assert (tmp_path / "joined").read_text() == "ba"
