"""Launches of several processes: by hand where it matters how they get along, by torchrun where the launcher does."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import DEVNULL, PIPE
from typing import Any

import pytest
from harness import PATIENCE_SECONDS, TINY, Project, Result, default_signals, write_sources

FAKE = Path(__file__).with_name("fake.py")


class Launched:
    """Processes started together, with no launcher that would end them: they must do so themselves."""

    def __init__(
        self, project: Project, behaviour: str, arguments: tuple[str, ...], count: int, **environ: str
    ) -> None:
        self.project = project
        command = [sys.executable, str(FAKE), behaviour, "run", "tiny.yaml", *arguments]
        common = {
            "WORLD_SIZE": str(count),
            "LOCAL_WORLD_SIZE": str(count),
            "GROUP_RANK": "0",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": "29500",
        }
        # Process 0 last: the others must be able to come first.
        self.processes = {
            index: subprocess.Popen(
                command,
                cwd=project.folder,
                env={**os.environ, **common, **environ, "RANK": str(index), "LOCAL_RANK": str(index)},
                stdin=DEVNULL,
                stdout=PIPE,
                stderr=PIPE,
                text=True,
                preexec_fn=default_signals,
            )
            for index in reversed(range(count))
        }

    def end(self) -> list[Result]:
        """Wait for all processes; what each of them left, in the order of their indices."""
        results = []
        for index in sorted(self.processes):
            process = self.processes[index]
            out, err = process.communicate(timeout=PATIENCE_SECONDS)
            results.append(Result(process.returncode, out, err))
        return results


@pytest.fixture(scope="session")
def prepared_once(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The tiny project with all stages before the training done."""
    project = Project(tmp_path_factory.mktemp("prepared"))
    write_sources(project.folder)
    (project.folder / "tiny.yaml").write_text(TINY)
    [result] = Launched(project, "work", ("--until", "model"), 1).end()
    assert result.code == 0, result.err
    return project


@pytest.fixture
def prepared(prepared_once: Project, tmp_path: Path) -> Project:
    """A copy of the prepared project that a test may change."""
    return prepared_once.copy(tmp_path / "copy")


@pytest.fixture
def launch() -> Iterator[Callable[..., Launched]]:
    """Start processes; those that still run when the test ends are killed."""
    all_launched: list[Launched] = []

    def start(project: Project, *arguments: str, behaviour: str = "work", count: int = 2, **environ: Any) -> Launched:
        all_launched.append(Launched(project, behaviour, arguments, count, **environ))
        return all_launched[-1]

    yield start
    for launched in all_launched:
        for process in launched.processes.values():
            if process.poll() is None:
                process.kill()
                process.communicate()
