"""Options of the test run, and the tiny run: carried out once, tests work on copies of its workspace."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

# Bits of weights depend on the number of threads, and two test processes with one each use two cores fully.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import hypothesis
import pytest
from harness import HEAVY, LIGHT, CommandServer, Project, tiny_project

# A busy machine takes longer for one example than for all others.
hypothesis.settings.register_profile("any machine", deadline=None)
hypothesis.settings.load_profile("any machine")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--record-digests", action="store_true", help="record the data stages' digests anew")


@pytest.fixture(scope="session")
def finished_once(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The tiny run, carried out; not to be changed by tests."""
    project = tiny_project(tmp_path_factory.mktemp("finished"))
    assert set(project.run().values()) == {"built"}
    return project


@pytest.fixture
def finished(finished_once: Project, tmp_path: Path) -> Project:
    """A copy of the finished run that a test may change."""
    return finished_once.copy(tmp_path / "copy")


@pytest.fixture(autouse=True)
def fresh_accelerate() -> Iterator[None]:
    """Accelerate holds a process to the precision of its first training; tests train in one process with several."""
    yield
    if "accelerate.state" in sys.modules:
        sys.modules["accelerate.state"].AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(autouse=True)
def same_environment() -> Iterator[None]:
    """What commands carried out in this process set is not there for the next test."""
    before = dict(os.environ)
    yield
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)


@pytest.fixture(autouse=True, scope="session")
def offline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing may be fetched from a hub, or kept in the user's home."""
    before = dict(os.environ)
    os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1")
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))
    Project.servers = {modules: CommandServer(modules) for modules in (HEAVY, LIGHT)}
    yield
    for server in Project.servers.values():
        server.close()
    os.environ.clear()
    os.environ.update(before)
