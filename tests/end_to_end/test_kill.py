"""Killed anywhere, a run completes when it is started again, with the results of an undisturbed run."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time

import pytest
from harness import STAGES, Project

FAST = ("curate", "encode", "train")


def kill_during(project: Project, stage: str, delay_seconds: float, signum: int = signal.SIGKILL) -> tuple[int, str]:
    """Start the run and signal it `delay_seconds` after the stage has started. Returns exit code and stderr."""
    process = subprocess.Popen(
        project.command("run", "tiny.yaml"),
        cwd=project.folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if line.startswith(f"{stage}: started"):
            time.sleep(delay_seconds)
            if signum == signal.SIGKILL:
                os.killpg(process.pid, signum)
            else:
                process.send_signal(signum)
            break
    lines += process.stderr
    return process.wait(timeout=120), "".join(lines)


@pytest.mark.parametrize(
    "stage", [pytest.param(stage, marks=() if stage in FAST else pytest.mark.slow) for stage in STAGES]
)
def test_a_kill_loses_nothing(finished: Project, stage: str) -> None:
    undisturbed = finished.digests()
    delays = random.Random(stage)
    for _ in range(2):
        finished.forget_from(stage)
        kill_during(finished, stage, delays.uniform(0, 4 if stage in ("train", "evaluate") else 1))
        finished.run()
        assert finished.digests() == undisturbed
    assert not list(finished.workspace.glob("artifacts/*/.tmp-*"))


def test_training_killed_after_a_checkpoint_resumes_from_it(finished: Project) -> None:
    undisturbed = finished.digests()
    finished.forget_from("train")
    process = subprocess.Popen(
        finished.command("run", "tiny.yaml"), cwd=finished.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while not list(finished.workspace.glob("checkpoints/*/step-*")):
        assert time.monotonic() < deadline
        assert process.poll() is None, "the run ended before a checkpoint was seen"
        time.sleep(0.005)
    process.kill()
    process.wait()
    assert finished.plan()["train"]["action"].startswith("resume (step ")
    finished.run()
    assert finished.digests() == undisturbed


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_outside_training_leaves_with_its_code_and_no_litter(
    finished: Project, signum: int, code: int
) -> None:
    finished.forget_from("tokenizer")
    exit_code, errors = kill_during(finished, "tokenizer", 0.2, signum)
    assert exit_code == code
    assert "Traceback" not in errors
    assert not list(finished.workspace.glob("artifacts/*/.tmp-*"))
    assert finished.state()["outcome"] == "interrupted"
