"""The launchers themselves: torchrun with two gloo processes, accelerate with one."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from harness import PATIENCE_SECONDS, STAGES, TINY, Project, Result, default_signals, tells, wait_until, write_sources

from pipeline.machine import bf16_support

ROOT = Path(__file__).parents[2]
SCRIPT = str(ROOT / "scripts" / "run_pipeline.py")
FLOAT32 = ("train.mixed_precision=no", "train.max_steps=20", "train.logging_steps=1", "train.save_steps=5")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """The tiny project with an empty workspace."""
    write_sources(tmp_path / "project")
    (tmp_path / "project" / "tiny.yaml").write_text(TINY)
    return Project(tmp_path / "project")


def start_command(project: Project, command: list[str], **environ: str) -> subprocess.Popen[str]:
    """Start a command in the project's folder."""
    return subprocess.Popen(
        command,
        cwd=project.folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environ},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=default_signals,
    )


def start(project: Project, module: str, *arguments: str, **environ: str) -> subprocess.Popen[str]:
    """Start a launcher."""
    return start_command(project, [sys.executable, "-m", module, *arguments], **environ)


FSDP2 = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}
"""What accelerate sets from accelerate_configs/fsdp2.yaml; on the CPU it starts one process, so torchrun does."""


def torchrun(project: Project, *arguments: str, **environ: str) -> subprocess.Popen[str]:
    options = ("--standalone", "--nproc_per_node", "2")
    environ = {"ACCELERATE_USE_CPU": "true", **environ}
    return start(project, "torch.distributed.run", *options, SCRIPT, "tiny.yaml", *arguments, **environ)


def accelerate(project: Project, *arguments: str) -> subprocess.Popen[str]:
    return start(project, "accelerate.commands.launch", *arguments)


def end(process: subprocess.Popen[str]) -> Result:
    out, err = process.communicate(timeout=PATIENCE_SECONDS)
    return Result(process.returncode, out, err)


def metrics(project: Project, tag: str) -> list[float]:
    lines = (project.artifact("train") / "metrics.jsonl").read_text().splitlines()
    return [line[tag] for line in map(json.loads, lines) if tag in line]


def wait_for_checkpoint(project: Project, process: subprocess.Popen[str]) -> None:
    wait_until(lambda: list(project.workspace.glob("checkpoints/*/step-*")), process)


def child(process: subprocess.Popen[str], rank: int) -> int:
    """The process that torchrun started as `rank`."""
    for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
        if f"RANK={rank}\0".encode() in Path(f"/proc/{pid}/environ").read_bytes().replace(b"LOCAL_RANK", b""):
            return int(pid)
    raise AssertionError(f"torchrun has no process {rank}")


def test_bad_data_ends_the_launcher_and_is_told_once(project: Project) -> None:
    (project.folder / "records.jsonl").write_text("{\n" * 1000)
    result = end(torchrun(project))
    assert result.code == 1
    assert result.err.count("descent: ") == 1
    assert (project.state()["outcome"], project.state()["exit_code"]) == ("failed", 65)


@pytest.mark.slow
def test_two_processes_build_each_artifact_once_and_train_like_one(project: Project) -> None:
    result = end(torchrun(project, *FLOAT32))
    assert result.code == 0, result.err
    assert [result.err.count(f"{stage}: started") for stage in STAGES] == [1] * len(STAGES)
    assert set(entry["outcome"] for entry in project.state()["stages"].values()) == {"built"}
    together = {tag: metrics(project, tag) for tag in ("train/loss", "train/grad_norm", "eval/loss")}
    assert len(together["train/loss"]) == 20
    two = project.digests()

    outcomes = project.run(*FLOAT32, "--force", "train")
    assert {stage for stage, outcome in outcomes.items() if outcome == "built"} >= {"train"}
    for tag, values in together.items():
        assert values == pytest.approx(metrics(project, tag), rel=1e-5), tag
    assert {stage for stage in STAGES[:8] if project.digests()[stage] != two[stage]} == set()

    again = end(torchrun(project, *FLOAT32))
    assert (again.code, again.out.count(" reuse ")) == (0, len(STAGES))


def evaluation(project: Project) -> tuple[str, dict[str, Any]]:
    """The key of a run's evaluation, and the evaluation."""
    folder = project.artifact("evaluate")
    return folder.name, json.loads((folder / "evaluation.json").read_text())


def figures(told: Any) -> list[float]:
    """All numbers in JSON values, in their order."""
    if isinstance(told, dict | list):
        parts = told.values() if isinstance(told, dict) else told
        return [number for part in parts for number in figures(part)]
    return [told] if isinstance(told, int | float) else []


def assert_same_evaluation(project: Project, expected: tuple[str, dict[str, Any]]) -> None:
    (key, found), (expected_key, told) = evaluation(project), expected
    assert key == expected_key
    assert figures(found) == pytest.approx(figures(told), rel=1e-9)
    assert (found["samples"], list(found["sources"])) == (told["samples"], list(told["sources"]))
    assert found["samples"]


@pytest.mark.slow
@pytest.mark.parametrize("environ", [FSDP2, {}], ids=["sharded", "copies"])
def test_any_number_of_processes_evaluates_what_any_number_trained(project: Project, environ: dict[str, str]) -> None:
    # Where each process holds a part, nothing ever makes the model whole.
    settings = (*FLOAT32, *(["model.materialize_limit=0"] if environ else []))
    result = end(torchrun(project, *settings, **environ))
    assert result.code == 0, result.err
    assert result.err.count("evaluate: started") == 1
    manifest = json.loads((project.artifact("train") / "manifest.json").read_text())
    assert manifest["summary"]["export_check"]["error"] < 1e-5
    two = evaluation(project)
    generate = ("-m", "pipeline", "generate", "tiny.yaml", "--prompt", "Once upon", "--prompt", "The")
    options = ("--standalone", "--nproc_per_node", "2")
    together = end(start(project, "torch.distributed.run", *options, *generate, ACCELERATE_USE_CPU="true", **environ))
    assert (together.code, together.out) == (0, project.descent(*generate[2:]).out), together.err
    assert together.out.startswith("Once upon")

    project.run(*settings, "--force", "evaluate")
    assert_same_evaluation(project, two)
    outcomes = project.run(*settings, "--force", "train", "--force", "evaluate")
    assert (outcomes["train"], outcomes["evaluate"]) == ("built", "built")
    one = evaluation(project)
    result = end(torchrun(project, *settings, "--force", "evaluate", **environ))
    assert result.code == 0, result.err
    assert_same_evaluation(project, one)


@pytest.mark.slow
def test_two_processes_rewarm_what_one_trained(finished: Project) -> None:
    """What process 0 found in the workspace to go on from holds in all: else their rates, and then weights, differ."""
    assert finished.descent("run", "tiny.yaml", *FLOAT32, "--until", "train").code == 0
    settings = (*FLOAT32, "train.max_steps=30", "train.rewarm_steps=3", "--until", "train")
    result = end(torchrun(finished, *settings))
    assert result.code == 0, result.err
    assert "re-warmed over 3 steps: continues training " in result.err
    tags = ("train/loss", "train/grad_norm", "train/learning_rate")
    together = {tag: metrics(finished, tag) for tag in tags}
    finished.run(*settings, "--force", "train")
    for tag, values in together.items():
        assert len(values) == 30
        assert values == pytest.approx(metrics(finished, tag), rel=1e-5), tag


@pytest.mark.slow
@pytest.mark.parametrize("who", ["launcher", "process 0", "process 1"])
def test_a_signal_in_training_saves_and_the_same_command_goes_on(project: Project, who: str) -> None:
    settings = ("train.max_steps=3000", "train.save_steps=10", "--until", "train")
    process = torchrun(project, *settings)
    wait_for_checkpoint(project, process)
    os.kill(process.pid if who == "launcher" else child(process, int(who[-1])), signal.SIGTERM)
    result = end(process)
    assert result.code != 0
    state = project.state()
    assert (state["outcome"], state["exit_code"]) == ("interrupted", 75), result.err
    assert result.err.count("descent: ") == 1
    step = project.plan(*settings)["train"]["action"]
    assert step.startswith("resume (step ")


@pytest.mark.slow
def test_a_process_killed_in_training_ends_all(project: Project) -> None:
    process = torchrun(project, "train.max_steps=3000", "train.save_steps=10", "--until", "train")
    wait_for_checkpoint(project, process)
    pid = child(process, 1)
    os.kill(pid, signal.SIGKILL)
    result = end(process)
    assert result.code != 0
    state = project.state()
    assert (state["outcome"], state["exit_code"]) == ("failed", 70), result.err
    assert state["message"].startswith(f"process 1 is gone (process {pid} on ")
    newest = max(project.workspace.glob("checkpoints/*/step-*")).name.removeprefix("step-")
    assert state["message"].endswith(f"; run again to go on from step {int(newest)}")


@pytest.mark.slow
@pytest.mark.skipif(not bf16_support({}).is_native, reason="this processor has no bf16")
def test_a_process_that_cannot_compute_as_process_0_chose_ends_all(project: Project) -> None:
    unlike = project.folder / "unlike.py"
    unlike.write_text(
        "import os, runpy\n"
        "if os.environ['RANK'] == '1':\n"
        "    os.environ['ONEDNN_MAX_CPU_ISA'] = 'AVX2'\n"
        "if __name__ == '__main__':  # worker processes import this file\n"
        f"    runpy.run_path({SCRIPT!r}, run_name='__main__')\n"
    )
    options = ("--standalone", "--nproc_per_node", "2", str(unlike), "tiny.yaml", "--until", "train")
    result = end(start(project, "torch.distributed.run", *options, ACCELERATE_USE_CPU="true"))
    assert result.code != 0
    assert "train.mixed_precision: auto is bf16 here" in result.out
    state = project.state()
    assert (state["outcome"], state["exit_code"]) == ("failed", 78), result.err
    assert tells(state["message"], "process 1: train.mixed_precision", "auto came to bf16", "write bf16 or no")


LAUNCHER = """if True:
    import runpy, sys, traceback
    try:
        runpy.run_module("torch.distributed.run", run_name="__main__", alter_sys=True)
    except Exception:
        traceback.print_exc(file=sys.stdout)
        raise
"""
"""torchrun that tells on standard output why it failed."""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["closed", "full"])
def test_a_training_does_not_need_standard_error(project: Project, kind: str) -> None:
    command = [sys.executable, "-c", LAUNCHER, "--standalone", "--nproc_per_node", "2", SCRIPT]
    redirect = {"closed": "2>&-", "full": "2>/dev/full"}[kind]
    line = f"exec {shlex.join([*command, 'tiny.yaml', '--until', 'train'])} {redirect}"
    result = end(start_command(project, ["bash", "-c", line], ACCELERATE_USE_CPU="true"))
    run_json = project.workspace / "runs" / "tiny" / "run.json"
    assert (result.code, result.err) == (0, ""), result.out + (run_json.read_text() if run_json.exists() else "no run")
    assert (project.state()["outcome"], project.state()["exit_code"]) == ("done", 0)
    assert json.loads((project.artifact("train") / "manifest.json").read_text())["summary"]["steps"] == 24


@pytest.mark.slow
def test_accelerate_starts_one_process_on_the_cpu(project: Project) -> None:
    config = str(ROOT / "accelerate_configs" / "cpu.yaml")
    result = end(accelerate(project, "--config_file", config, SCRIPT, "tiny.yaml"))
    assert result.code == 0, result.err
    assert set(entry["outcome"] for entry in project.state()["stages"].values()) == {"built"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--cpu", "--num_processes", "2"), "torchrun --nproc_per_node N"),
        (("--cpu", "--num_processes", "1", "--mixed_precision", "fp16"), "the launcher was given fp16"),
    ],
)
def test_accelerate_is_refused_what_it_does_not_do(project: Project, options: tuple[str, ...], message: str) -> None:
    # With --quiet accelerate adds no traceback of its own to what the pipeline says.
    result = end(accelerate(project, "--quiet", "--num_machines", "1", *options, SCRIPT, "tiny.yaml"))
    assert result.code == 1
    [told] = [line for line in result.err.splitlines() if line.startswith("descent: ")]
    assert message in told
    assert not project.workspace.exists()


@pytest.mark.slow
def test_four_runs_at_once_in_an_empty_workspace_build_each_artifact_once(project: Project) -> None:
    names: list[Any] = ["run.name=tiny", "run.name=tiny", "run.name=second", "run.name=third"]
    processes = [start(project, "pipeline", "run", "tiny.yaml", name) for name in names]
    results = [end(process) for process in processes]
    assert [result.code for result in results] == [0, 0, 0, 0], results
    told = "".join(result.err for result in results)
    # The report names its run, so each run has its own.
    assert [told.count(f"{stage}: started") for stage in STAGES[:-1]] == [1] * (len(STAGES) - 1)
    for name in ("tiny", "second", "third"):
        state = json.loads((project.workspace / "runs" / name / "run.json").read_text())
        assert state["outcome"] == "done"
    assert not list(project.workspace.glob("artifacts/*/.tmp-*"))
