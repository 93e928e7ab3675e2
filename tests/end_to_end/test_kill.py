"""Killed anywhere, a run completes when it is started again, with the results of an undisturbed run."""

from __future__ import annotations

import os
import signal
import subprocess
import time

import pytest
from harness import STAGES, Project

FAST = ("curate", "encode", "train")


def signal_during(project: Project, stage: str, delay_seconds: float, signum: int, group: bool) -> tuple[int, str]:
    """Start the run and signal it, or with all its children, `delay_seconds` after the stage has started.

    Returns exit code and stderr.
    """
    process = subprocess.Popen(
        project.command("run", "tiny.yaml"),
        cwd=project.folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A shell has work in the background ignore interrupts, and what is ignored stays so.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if line.startswith(f"{stage}: started"):
            time.sleep(delay_seconds)
            if group:
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
    key = finished.state()["stages"][stage]["key"]
    seconds = finished.state()["stages"][stage]["seconds"]
    num_landed = 0
    for attempt, fraction in enumerate((0.3, 0.7, 0.0)):
        finished.forget_from(stage)
        code, _ = signal_during(finished, stage, fraction * seconds, signal.SIGKILL, group=attempt % 2 == 0)
        num_landed += code == -signal.SIGKILL and not (finished.workspace / "artifacts" / stage / key).exists()
        finished.run()
        assert finished.digests() == undisturbed
        assert not list(finished.workspace.glob("artifacts/*/.tmp-*"))
    assert num_landed > 0, f"no signal arrived while {stage} was running"


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
    exit_code, errors = signal_during(finished, "tokenizer", 0.2, signum, group=False)
    assert exit_code == code, errors
    assert "Traceback" not in errors
    assert not list(finished.workspace.glob("artifacts/*/.tmp-*"))
    assert finished.state()["outcome"] == "interrupted"
