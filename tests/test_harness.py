"""The tests' own tools can say no."""

from __future__ import annotations

from pathlib import Path

import pytest
from harness import Project, tells, tiny_project


@pytest.mark.parametrize(
    ("message", "holds"),
    [
        ("run.yaml:3: seed is missing; set run.seed\n", True),
        ("seed is missing in run.yaml; set run.seed\n", False),  # in another order
        ("run.yaml:3: seed is missing\n", False),  # nothing to do
        ("run.yaml:3: seed is missing; set run.seed\nTraceback\n", False),
    ],
)
def test_a_message_is_one_line_with_its_words_in_order(message: str, holds: bool) -> None:
    assert tells(message, "run.yaml:3", "seed is missing", "run.seed") is holds


@pytest.mark.parametrize("arguments", [["plan", "tiny.yaml"], ["plan", "none.yaml"], ["nonsense"]])
def test_a_served_command_leaves_what_one_leaves_that_imports_all_itself(tmp_path: Path, arguments: list[str]) -> None:
    project = tiny_project(tmp_path)
    assert project.server is not None
    served, own = project.server.carry_out(arguments, project.folder), project.descent(*arguments, UNUSED="1")
    assert served == own
    assert (served.code == 0) == (arguments[-1:] == ["tiny.yaml"])
    assert served.out or served.err


def test_an_environment_that_changed_is_not_served(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Project.server is not None
    assert Project.server.fits()
    monkeypatch.setenv("HF_HOME", "elsewhere")
    assert not Project.server.fits()
