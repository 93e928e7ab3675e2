"""Tasks in processes that the run has not started: what they find and leave in the job's folder."""

from __future__ import annotations

import os
import shutil
import socket
import sys
from pathlib import Path

import pytest

from pipeline.errors import BadDataError, ConfigError
from pipeline.executors import EXECUTORS, Executor, remote_tasks, slurm_session
from pipeline.executors.jobs import Job, JobProgress, Report, Work
from pipeline.executors.ray import Ray
from pipeline.executors.remote_tasks import remote_outcome, run_remote_task, write_place
from pipeline.executors.slurm import Slurm
from pipeline.executors.task_states import TaskStates
from pipeline.progress import Progress


def tell_directory(shared: None, task: int, output: Path, report: Report) -> str:
    return os.getcwd()


def fail(shared: None, task: int, output: Path, report: Report) -> None:
    raise BadDataError(f"task {task} is bad")


def lose_the_folder(shared: None, task: int, output: Path, report: Report) -> None:
    shutil.rmtree(output.parent)


@pytest.fixture(autouse=True)
def _as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process elsewhere is changed for good: its folder, its path, its environment."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("OMP_NUM_THREADS", "TOKENIZERS_PARALLELISM"):
        monkeypatch.setenv(name, "1")
    monkeypatch.chdir(os.getcwd())


def job_of(folder: Path, work: Work) -> Job:
    job = Job(work, None, [7], [1], folder / "job", "trying")
    job.write()
    return job


def test_a_task_works_where_the_run_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("run", "elsewhere"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "run")
    sys.path.append(str(tmp_path / "modules"))
    job = job_of(tmp_path, tell_directory)
    write_place(job.folder)
    monkeypatch.chdir(tmp_path / "elsewhere")
    sys.path.remove(str(tmp_path / "modules"))
    assert remote_outcome(job, 0) == (False, None)
    assert run_remote_task(job.folder, 0) is None
    assert remote_outcome(job, 0) == (True, None)
    assert job.result(0) == str(tmp_path / "run")
    assert str(tmp_path / "modules") in sys.path


def test_what_a_task_raises_is_left_in_a_file(tmp_path: Path) -> None:
    job = job_of(tmp_path, fail)
    write_place(job.folder)
    assert run_remote_task(job.folder, 0) is None
    is_over, error = remote_outcome(job, 0)
    assert is_over
    assert isinstance(error, BadDataError)
    assert str(error) == "task 7 is bad"


def test_a_task_whose_folder_goes_ends_without_a_word(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    job = job_of(tmp_path, lose_the_folder)
    write_place(job.folder)
    assert run_remote_task(job.folder, 0) is None
    assert not job.folder.exists()
    assert capfd.readouterr() == ("", "")


def test_a_machine_that_does_not_see_the_folder_says_which_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_tasks, "PATIENCE_SECONDS", 0)
    assert run_remote_task(tmp_path / "nowhere", 0) == socket.gethostname()


@pytest.mark.parametrize("executor", [Ray(), Slurm()])
def test_a_missing_extra_is_told(executor: Executor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"pipeline.executors.{executor.type}.find_spec", lambda name: None)
    with pytest.raises(
        ConfigError, match=rf"needs the extra `{executor.type}`: pip install 'descent-pipeline\[{executor.type}\]'"
    ):
        executor.check()


def test_slurm_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.executors.slurm.find_spec", lambda name: object())
    monkeypatch.setattr("shutil.which", lambda name: None if name == "sbatch" else name)
    with pytest.raises(ConfigError, match=r"slurm needs sbatch; start the run on a machine of the cluster"):
        Slurm().check()


def test_sessions_of_all_executors_start_nothing_before_their_first_job() -> None:
    before = {"ray", "submitit"} & sys.modules.keys()
    for kind in EXECUTORS:
        with kind().session(2):
            pass
    assert {"ray", "submitit"} & sys.modules.keys() == before


def test_slurm_has_lost_a_task_when_it_says_so_for_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of commands that stand in for Slurm's. A Slurm that does not answer has lost nothing."""
    answers = {"sbatch": "echo Submitted batch job 7", "squeue": f"cat {tmp_path}/queue", "srun": "", "scancel": ""}
    for name, answer in answers.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{answer}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(slurm_session, "LOOK_SECONDS", 0)
    monkeypatch.setattr(slurm_session, "GONE_SECONDS", 3600)
    job = Job(fail, None, range(3), [1] * 3, tmp_path / "job", "trying")
    job.write()
    with Progress("test").bar("trying") as bar, Slurm(tasks_per_job=2).session(1) as session:
        states = TaskStates(job, JobProgress(job, bar), print)
        session.begin(job)
        for queue in (None, "7_0 R\n7_1 PD\n", ""):
            if queue is not None:
                (tmp_path / "queue").write_text(queue)
            session.advance(job, states)
            assert (list(states.waiting), states.running) == ([], {0, 1, 2})
        monkeypatch.setattr(slurm_session, "GONE_SECONDS", 0)
        session.advance(job, states)
        assert (sorted(states.waiting), states.running) == ([0, 1, 2], set())
