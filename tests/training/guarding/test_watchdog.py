"""A process that hangs ends with its stacks; one that works is left alone."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from harness import PATIENCE_SECONDS, wait_until
from torch import nn

from pipeline.training.guarding import watchdog
from pipeline.training.guarding.watchdog import Watchdog

LIMIT = 3.0
"""Seconds without a forward pass. Tests wait for them, and so must the threads of a busy machine be able to."""

COLLECTIVE = """
import os, sys, time
from pathlib import Path
import torch
from torch import distributed
from pipeline.training.guarding import watchdog

index, folder, limit = int(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=index, world_size=2)

def lost_in_thought():
    time.sleep(3600)

def say(message):
    print(message, file=sys.stderr)

with watchdog.Watchdog(limit, torch.nn.Linear(1, 1), folder, index, say, print):
    if index == 1:
        lost_in_thought()
    distributed.all_reduce(torch.ones(1))
"""


def test_a_hang_in_a_collective_ends_both_processes_with_their_stacks(tmp_path):
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "PYTHONPATH": os.getcwd()}
    children = [
        subprocess.Popen(
            [sys.executable, "-c", COLLECTIVE, str(index), str(tmp_path), str(LIMIT)],
            env=environment,
            text=True,
            stderr=subprocess.PIPE,
        )
        for index in range(2)
    ]
    errors = [child.communicate(timeout=PATIENCE_SECONDS)[1] for child in children]
    assert [child.returncode for child in children] == [70, 70]
    stacks = [(tmp_path / "hang" / f"process-{index}.txt").read_text() for index in range(2)]
    assert "all_reduce" in stacks[0]
    assert "lost_in_thought" in stacks[1]
    assert "process 1 hangs: no forward pass for 3 s" in errors[1]
    assert "lost_in_thought" in errors[1]


HANGING_RUN = """
import sys, time
from pipeline import cli
from pipeline.training.batches import GlobalBatches

GlobalBatches.__getitem__ = lambda *arguments: time.sleep(3600)
cli.main(sys.argv[1:])
"""


def test_a_run_that_hangs_is_recorded_as_failed(finished):
    changes = ["train.learning_rate=0.004", f"train.hang_timeout_seconds={LIMIT}"]
    done = subprocess.run(
        [sys.executable, "-c", HANGING_RUN, "run", "tiny.yaml", *changes],
        cwd=finished.folder,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert done.returncode == 70
    state = finished.state()
    assert (state["outcome"], state["exit_code"]) == ("failed", 70)
    assert "process 0 hangs: no forward pass for 3 s" in state["message"]


def test_python_kept_from_running_does_not_escape(tmp_path):
    # A regular expression that backtracks for ever never lets another thread run.
    code = f"""
    import re
    from pathlib import Path
    from torch import nn
    from pipeline.training.guarding.watchdog import Watchdog
    with Watchdog(0.5, nn.Linear(1, 1), Path({str(tmp_path)!r}), 0, print, print):
        import time; time.sleep(0.2)
        re.match("(a*)*b", "a" * 60)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert done.returncode == 1
    assert "re/__init__.py" in (tmp_path / "hang" / "process-0.txt").read_text()


def test_forward_passes_count_as_progress(tmp_path, monkeypatch):
    clock, looks, ended, limit = [0.0], [0], [], 60.0

    def read_clock() -> float:
        looks[0] += threading.current_thread() is not threading.main_thread()
        return clock[0]

    monkeypatch.setattr(watchdog, "time", SimpleNamespace(monotonic=read_clock, sleep=time.sleep))
    monkeypatch.setattr(watchdog, "POLLS", 10_000)
    monkeypatch.setattr(watchdog.os, "_exit", ended.append)
    network = nn.Linear(1, 1)
    with Watchdog(limit, network, tmp_path, 0, print, lambda error: None) as dog:
        for _ in range(8):
            clock[0] += 0.9 * limit
            seen = looks[0]
            wait_until(lambda seen=seen: looks[0] > seen + 1)
            network(network.weight)
        with dog.resting():  # a benchmark in process 0, say
            clock[0] += 5 * limit
            seen = looks[0]
            wait_until(lambda: looks[0] > seen + 1)
        clock[0] += 0.9 * limit
        seen = looks[0]
        wait_until(lambda: looks[0] > seen + 1)
        network(network.weight)
    assert not ended
    assert not (tmp_path / "hang").exists()


def test_processes_that_come_and_go_leave_each_other_their_files(tmp_path):
    together, faults = threading.Barrier(4), []

    def come_and_go(index: int) -> None:
        try:
            for _ in range(300):
                together.wait(PATIENCE_SECONDS)
                with Watchdog(PATIENCE_SECONDS, nn.Linear(1, 1), tmp_path, index, print, print) as watching:
                    assert watching._path.is_file()
        except Exception as error:
            faults.append(error)
            together.abort()

    threads = [threading.Thread(target=come_and_go, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not [fault for fault in faults if not isinstance(fault, threading.BrokenBarrierError)]


def test_a_folder_that_another_process_takes_away_is_made_again(tmp_path, monkeypatch):
    make, taken = Path.mkdir, []

    def make_and_lose(path, *arguments, **options):
        make(path, *arguments, **options)
        if path.name == "hang" and len(taken) < 3:
            taken.append(path)
            path.rmdir()

    monkeypatch.setattr(Path, "mkdir", make_and_lose)
    with Watchdog(PATIENCE_SECONDS, nn.Linear(1, 1), tmp_path, 0, print, print) as watching:
        assert watching._path.is_file()
    assert len(taken) == 3


@pytest.mark.parametrize("blocked", ["hang", "hang/process-0.txt"])
def test_what_is_in_the_way_of_the_stacks_is_removed(tmp_path, blocked):
    if blocked == "hang":
        (tmp_path / blocked).write_text("no folder")
    else:
        (tmp_path / blocked).mkdir(parents=True)
    with Watchdog(PATIENCE_SECONDS, nn.Linear(1, 1), tmp_path, 0, print, print):
        assert (tmp_path / "hang" / "process-0.txt").is_file()


@pytest.mark.parametrize("timeout", [None, 30.0])
def test_nothing_is_left_behind(tmp_path, timeout):
    with Watchdog(timeout, nn.Linear(1, 1), tmp_path, 0, print, lambda error: None):
        pass
    assert not list(tmp_path.rglob("*.txt"))
