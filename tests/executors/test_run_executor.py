"""`run.executor` in a run."""

from __future__ import annotations

from pathlib import Path

import pytest
from harness import Project, tiny_project

OWN = """
from pipeline.errors import ConfigError
from pipeline.executors import Executor
from pipeline.executors.local_session import LocalSession

class OnHolidays(Executor):
    type: str
    day: str

    def check(self):
        if self.day != "Sunday":
            raise ConfigError(f"run.executor: no workers on {self.day}")

    def session(self, num_workers):
        return LocalSession(1)
"""
ON = "run.executor={{type: ./own.py:OnHolidays, day: {}}}"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    project = tiny_project(tmp_path)
    (project.folder / "own.py").write_text(OWN)
    return project


def test_what_an_executor_lacks_is_told_before_the_first_stage_that_needs_it_and_no_later(project: Project) -> None:
    monday, sunday = ON.format("Monday"), ON.format("Sunday")
    assert project.descent("plan", "tiny.yaml", monday).code == 0
    refused = project.descent("run", "tiny.yaml", "--until", "tokenizer", monday)
    assert (refused.code, refused.err.splitlines()[-1]) == (78, "descent: run.executor: no workers on Monday")
    assert not list(project.folder.glob("workspace/artifacts/*/*/manifest.json"))
    assert project.descent("run", "tiny.yaml", "--until", "augment", sunday).code == 0
    # What is left needs no workers, and the executor is in no key.
    assert project.descent("run", "tiny.yaml", "--until", "tokenizer", monday).code == 0
