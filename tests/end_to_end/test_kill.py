"""Killed anywhere, a run completes when it is started again, with the results of an undisturbed run."""

from __future__ import annotations

import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import killing
import pytest
from harness import PATIENCE_SECONDS, STAGES, Project, default_signals, tiny_project, wait_until

FAST = ("curate", "encode", "train")

HOLDING = """if True:
    import sys, time
    from pathlib import Path
    from pipeline.main import main
    from pipeline.stages import STAGES

    name = sys.argv.pop(1)
    (stage,) = [stage for stage in STAGES if stage.name == name]

    def run(context):
        (context.output / "begun").touch()
        Path("in-stage").touch()
        time.sleep(3600)

    object.__setattr__(stage, "run", run)
    main(sys.argv[1:])
"""
"""Runs a command in which a stage does not end."""

LONG = ("train.max_steps=100000", "--until", "train")
"""A training that no test waits for the end of."""


def start_held(project: Project, stage: str, **options: Any) -> subprocess.Popen[str]:
    """Start the run, and wait until it is inside a stage, which does not end."""
    (project.folder / "in-stage").unlink(missing_ok=True)
    command = [sys.executable, "-c", HOLDING, stage, "run", "tiny.yaml"]
    process = project.start(command=command, **options)
    wait_until((project.folder / "in-stage").exists, process)
    return process


def kill_during(project: Project, stage: str, delay_seconds: float, group: bool) -> int:
    """Start the run and kill it, or with all its children, `delay_seconds` after the stage has started."""
    process = project.start("run", "tiny.yaml", start_new_session=True)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith(f"{stage}: started"):
            time.sleep(delay_seconds)
            if group:
                os.killpg(process.pid, signal.SIGKILL)
            else:
                process.kill()
            break
    process.stderr.read()
    return process.wait(PATIENCE_SECONDS)


@pytest.mark.parametrize(
    "stage", [pytest.param(stage, marks=() if stage in FAST else pytest.mark.slow) for stage in STAGES]
)
def test_a_kill_loses_nothing(finished: Project, stage: str) -> None:
    undisturbed = finished.digests()
    key = finished.state()["stages"][stage]["key"]
    seconds = finished.state()["stages"][stage]["seconds"]
    finished.forget_from(stage)
    held = start_held(finished, stage)  # surely inside the stage, while a short one may be over when others arrive
    held.kill()
    assert held.wait() == -signal.SIGKILL
    assert not (finished.workspace / "artifacts" / stage / key).exists()
    kill_during(finished, stage, 0.3 * seconds, group=True)
    kill_during(finished, stage, 0.7 * seconds, group=False)
    finished.run()
    assert finished.digests() == undisturbed
    assert not list(finished.workspace.glob("artifacts/*/.tmp-*"))


@pytest.mark.slow
@pytest.mark.parametrize(("count", "num_runs"), [(1, 4), (2, 4)])
def test_kills_at_random_moments_lose_nothing_and_leave_nothing(tmp_path: Path, count: int, num_runs: int) -> None:
    """Not a path more or less than after an undisturbed run: no temporary files, notes of holders, stacks, launches."""
    project, random, num_killed = tiny_project(tmp_path), Random(count), 0
    assert killing.launch(project, count) == 0
    undisturbed = killing.remains(project)
    changes = [killing.changes_of(project, index) for index in range(count)]
    for _ in range(num_runs):
        shutil.rmtree(project.workspace)
        num_killed += killing.kill_until_whole(project, count, random, changes)
        assert killing.remains(project) == undisturbed
    assert num_killed >= num_runs


def wait_for_checkpoint(project: Project, process: subprocess.Popen[str]) -> None:
    wait_until(lambda: list(project.workspace.glob("checkpoints/*/step-*")), process)


def test_training_killed_after_a_checkpoint_resumes_from_it(finished: Project) -> None:
    undisturbed = finished.digests()
    finished.forget_from("train")
    process = finished.start("run", "tiny.yaml", stderr=subprocess.DEVNULL)
    wait_for_checkpoint(finished, process)
    process.kill()
    process.wait()
    assert finished.plan()["train"]["action"].startswith("resume (step ")
    finished.run()
    assert finished.digests() == undisturbed


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGINT", 130), ("SIGHUP", 129)])
def test_a_signal_outside_training_leaves_with_its_code_and_no_litter(finished: Project, name: str, code: int) -> None:
    finished.forget_from("tokenizer")
    process = start_held(finished, "tokenizer")
    process.send_signal(getattr(signal, name))
    _, errors = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == code, errors
    assert "Traceback" not in errors
    assert not list(finished.workspace.glob("artifacts/*/.tmp-*"))
    assert finished.state()["outcome"] == "interrupted"


def ignoring(name: str) -> Callable[[], None]:
    """For `preexec_fn`: ignore one signal, as a child inherits it."""

    def prepare() -> None:
        default_signals()
        signal.signal(getattr(signal, name), signal.SIG_IGN)

    return prepare


@pytest.mark.parametrize(
    ("ignored", "by"),
    [
        ("SIGINT", "SIGTERM"),  # in the background of a shell, and under many a CI runner
        ("SIGHUP", "SIGINT"),  # nohup
        ("SIGTERM", "SIGHUP"),
    ],
)
def test_what_a_training_was_started_to_ignore_it_ignores_and_others_stop_it(
    finished: Project, ignored: str, by: str
) -> None:
    finished.forget_from("train")
    process = finished.start("run", "tiny.yaml", *LONG, preexec_fn=ignoring(ignored))
    wait_for_checkpoint(finished, process)
    process.send_signal(getattr(signal, ignored))
    process.send_signal(getattr(signal, by))
    _, errors = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 75, errors
    assert f"training: stopped by {by} after step " in errors
    assert ignored not in errors
    assert (finished.state()["outcome"], finished.state()["exit_code"]) == ("interrupted", 75)
    assert finished.plan(*LONG)["train"]["action"].startswith("resume (step ")


def in_terminal(path: str) -> Callable[[], None]:
    """For `preexec_fn`: make a terminal that of a new session, with all three streams."""

    def prepare() -> None:
        default_signals()
        os.setsid()
        terminal = os.open(path, os.O_RDWR)  # of a session's leader without one, it becomes the terminal
        for stream in range(3):
            os.dup2(terminal, stream)

    return prepare


@pytest.mark.skipif(sys.platform != "linux", reason="opening a terminal makes it one's own on Linux")
def test_a_terminal_that_closes_saves_the_training(finished: Project) -> None:
    finished.forget_from("train")
    screen, keyboard = pty.openpty()
    terminal = os.ttyname(keyboard)
    process = finished.start("run", "tiny.yaml", *LONG, stderr=None, stdout=None, preexec_fn=in_terminal(terminal))
    os.close(keyboard)
    while not list(finished.workspace.glob("checkpoints/*/step-*")):
        assert process.poll() is None
        os.read(screen, 65536)  # somebody must read, or the process waits for its terminal
    os.close(screen)
    assert process.wait(PATIENCE_SECONDS) == 75
    state = finished.state()
    assert (state["outcome"], state["exit_code"]) == ("interrupted", 75)
    assert "stopped by SIGHUP" in state["message"]
