"""Work in several processes: errors arrive whole, and a killed parent leaves no process behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import PATIENCE_SECONDS, default_signals, wait_until

from pipeline.executors.jobs import REPORT_SECONDS, Job, Report, run_task
from pipeline.executors.local_session import LocalSession
from pipeline.progress import Progress, ProgressBar

SCRIPT = """
import json, os, signal, sys, time
import pipeline.cli
from pathlib import Path
from pipeline.errors import BadDataError
from pipeline.executors.jobs import Job
from pipeline.executors.base_session import WORKER_BYTES
from pipeline.executors.local_session import LocalSession
from pipeline.progress import Progress, ProgressBar

def count(shared, number, output, report):
    (output / "number").write_text(str(number))
    return number + shared

def note_and_count(shared, number, output, report):
    with open("calls", "a") as file:
        file.write(f"{number}\\n")
    return count(shared, number, output, report)

def die_once(shared, number, output, report):
    count(shared, number, output, report)
    if number == 1 and not os.path.exists("died"):
        Path("died").touch()
        note_and_count(shared, number, output, report)
        os.kill(os.getpid(), signal.SIGKILL)
    return note_and_count(shared, number, output, report)

def tell_process(shared, number, output, report):
    time.sleep(0.2)
    return os.getpid()

def fail(shared, number, output, report):
    raise BadDataError(f"number {number} is bad")

def fail_unsendably(shared, number, output, report):
    class Local(Exception):
        pass
    raise Local("cannot travel")

def fail_beside_one_that_hangs(shared, number, output, report):
    fail(shared, number, output, report) if number == 1 else time.sleep(3600)

def panic(shared, number, output, report):
    from tokenizers import Tokenizer
    model = {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}
    malformed = {"version": "1.0", "model": model, "pre_tokenizer": {"type": "FixedLength", "length": 0}}
    Tokenizer.from_str(json.dumps(malformed)).encode("text")

def leave(shared, number, output, report):
    sys.exit(0)

def die(shared, number, output, report):
    os._exit(9)

def hang(shared, number, output, report):
    Path(f"worker-{number}").write_text(str(os.getpid()))
    time.sleep(3600)

def work_until_the_bar_moves(shared, number, output, report):
    while not os.path.exists("moved"):
        report(1)
        time.sleep(0.05)
    return number

def count_threads(shared, number, output, report):
    import numpy, pyarrow
    time.sleep(0.1)
    return [pyarrow.cpu_count(), len(os.listdir(f"/proc/{os.getppid()}/task"))]

if __name__ == "__main__":
    if sys.argv[1] == "work_until_the_bar_moves":
        ProgressBar.update = lambda bar, amount: Path("moved").touch()
    work = globals()[sys.argv[1]]
    try:
        with LocalSession(2) as session:
            for name in "ab" if len(sys.argv) > 2 else "a":
                job = Job(work, 10, [1, 2, 3, 4], [3 * WORKER_BYTES] * 4, Path(name), "counting")
                print([result for _, result in session.run(job, Progress("test"))])
    except Exception as error:
        print(f"{type(error).__name__}: {error}")
"""


def start(folder: Path, *arguments: str, prepare: Callable[[], object] = default_signals) -> subprocess.Popen[str]:
    script = folder / "script.py"
    script.write_text(SCRIPT)
    return subprocess.Popen(
        [sys.executable, script, *arguments],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=prepare,
    )


@pytest.mark.parametrize(
    ("work", "printed"),
    [
        ("count", "[11, 12, 13, 14]"),
        ("fail", "BadDataError: number 1 is bad"),
        ("panic", "Panic: chunk size must be non-zero"),
        ("leave", "Panic: SystemExit: 0"),
        ("fail_unsendably", "RuntimeError: Local: cannot travel"),
    ],
)
def test_results_and_errors_come_back(tmp_path: Path, work: str, printed: str) -> None:
    output, _ = start(tmp_path, work).communicate(timeout=PATIENCE_SECONDS)
    assert output == f"{printed}\n"


def test_the_task_of_a_killed_process_is_done_again_and_no_other(tmp_path: Path) -> None:
    output, _ = start(tmp_path, "die_once").communicate(timeout=PATIENCE_SECONDS)
    assert output == "[11, 12, 13, 14]\n"
    assert sorted((tmp_path / "calls").read_text().split()) == ["1", "1", "2", "3", "4"]
    made = {path.parent.name: path.read_text() for path in (tmp_path / "a").glob("??????/number")}
    assert made == {"000000": "1", "000001": "2", "000002": "3", "000003": "4"}


def test_a_task_whose_process_is_killed_again_and_again_ends_the_job(tmp_path: Path) -> None:
    output, _ = start(tmp_path, "die").communicate(timeout=PATIENCE_SECONDS)
    assert re.fullmatch(
        r"StorageError: a worker process was killed 3 times at shard [12] of 4 \(counting\), probably for lack of "
        r"memory; set run.num_workers below 2\n",
        output,
    )


def test_processes_live_through_jobs(tmp_path: Path) -> None:
    output, _ = start(tmp_path, "tell_process", "twice").communicate(timeout=PATIENCE_SECONDS)
    first, second = map(json.loads, output.splitlines())
    assert len({*first, *second}) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_processes_use_one_thread_and_come_from_one_that_has_no_other(tmp_path: Path) -> None:
    """Forking a process that has threads can deadlock. numpy and pyarrow start some when they are imported."""
    output, _ = start(tmp_path, "count_threads").communicate(timeout=PATIENCE_SECONDS)
    assert output == "[[1, 1], [1, 1], [1, 1], [1, 1]]\n"


def add(shared: int, task: int, output: Path, report: Report) -> int:
    return shared + task


def test_a_task_that_two_processes_did_is_there_once(tmp_path: Path) -> None:
    job = Job(add, 1, [5], [0], tmp_path / "job", "adding")
    job.write()
    for _ in range(2):  # the first was taken for dead
        run_task(job.folder, 0)
    assert job.result(0) == 6
    assert sorted(path.name for path in job.folder.iterdir()) == ["000000", "job.pickle", "progress"]


def do_by_halves(shared: None, task: int, output: Path, report: Report) -> int:
    for _ in range(2):
        time.sleep(1.1 * REPORT_SECONDS)
        report(task // 2)
    return task


def test_others_see_how_far_a_task_is(tmp_path: Path) -> None:
    job = Job(do_by_halves, None, [60, 40], [50, 40], tmp_path / "job", "halving")
    job.write()
    seen: list[int] = []
    run_task(job.folder, 0, lambda: seen.append(job.reported(0)))
    assert (seen, job.reported(1)) == ([30, 50], 0)  # never more than its size, and nothing before it begins


def test_a_bar_moves_by_what_tasks_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moved: list[float] = []
    monkeypatch.setattr(ProgressBar, "update", lambda bar, amount: moved.append(amount))
    with LocalSession(1) as session:
        job = Job(do_by_halves, None, [60, 40], [50, 40], tmp_path / "job", "halving")
        assert [result for _, result in session.run(job, Progress("test"))] == [60, 40]
    assert moved == [30, 20, 20, 20]


def test_a_bar_moves_while_processes_work(tmp_path: Path) -> None:
    output, _ = start(tmp_path, "work_until_the_bar_moves").communicate(timeout=PATIENCE_SECONDS)
    assert output == "[1, 2, 3, 4]\n"


def test_jobs_may_have_no_tasks(tmp_path: Path) -> None:
    with LocalSession(2) as session:
        assert list(session.run(Job(add, 1, [], [], tmp_path / "job", "adding"), Progress("test"))) == []


def test_a_worker_that_hangs_ends_with_another_that_fails_whatever_signals_are_ignored(tmp_path: Path) -> None:
    process = start(
        tmp_path, "fail_beside_one_that_hangs", prepare=lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN)
    )
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


class Elsewhere(LocalSession):
    elsewhere = "Ray"


def test_a_cluster_that_is_not_used_for_small_jobs_is_told_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for kind in (LocalSession, Elsewhere):
        with kind(2) as session:
            for number in range(2):
                job = Job(add, 1, [0, 1], [1, 1], tmp_path / f"{kind.__name__}{number}", "counting")
                list(session.run(job, Progress("x")))
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("x: small jobs")]
    assert told == ["x: small jobs (less than 16 MB of text, or one task) are done by the run, not on Ray"]
