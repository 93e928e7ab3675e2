"""The tiny run, carried out once; tests work on copies of its workspace."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness import TINY, Project, Result, write_sources


@pytest.fixture(scope="session")
def finished_once(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The tiny run, carried out; not to be changed by tests."""
    project = Project(tmp_path_factory.mktemp("finished"))
    write_sources(project.folder)
    (project.folder / "tiny.yaml").write_text(TINY)
    assert set(project.run().values()) == {"built"}
    return project


@pytest.fixture
def finished(finished_once: Project, tmp_path: Path) -> Project:
    """A copy of the finished run that a test may change."""
    folder = tmp_path / "copy"
    shutil.copytree(finished_once.folder, folder, symlinks=True)
    return Project(folder)


@pytest.fixture
def without_torch() -> Callable[[Project, list[str]], Result]:
    """Run a verb in a process that fails when torch, transformers or datasets was imported."""
    program = (
        "import sys\n"
        "from pipeline.cli import main\n"
        "try:\n"
        "    main(sys.argv[1:])\n"
        "finally:\n"
        "    heavy = {'torch', 'transformers', 'datasets'} & set(sys.modules)\n"
        "    if heavy:\n"
        "        sys.exit(f'imported {heavy}')\n"
    )

    def run(project: Project, arguments: list[str]) -> Result:
        command = [sys.executable, "-c", program, *arguments]
        done = subprocess.run(command, cwd=project.folder, capture_output=True, text=True, timeout=60, check=False)
        return Result(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture(autouse=True, scope="session")
def offline() -> Iterator[None]:
    """Nothing may be fetched from a hub."""
    before = dict(os.environ)
    os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1")
    yield
    os.environ.clear()
    os.environ.update(before)
