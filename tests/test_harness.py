"""The tests' own tools can say no."""

from __future__ import annotations

from pathlib import Path

import pytest
from harness import HEAVY, LIGHT, Project, tells, tiny_project


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


@pytest.mark.parametrize("modules", [HEAVY, LIGHT])
@pytest.mark.parametrize("arguments", [["plan", "tiny.yaml"], ["plan", "none.yaml"], ["nonsense"]])
def test_a_served_command_leaves_what_one_leaves_that_imports_all_itself(
    tmp_path: Path, modules: tuple[str, ...], arguments: list[str]
) -> None:
    project = tiny_project(tmp_path)
    served = project.servers[modules].carry_out(arguments, project.folder)
    assert served == project.descent(*arguments, UNUSED="1")
    assert (served.code == 0) == (arguments[-1:] == ["tiny.yaml"])
    assert served.out or served.err


@pytest.mark.parametrize("modules", [HEAVY, LIGHT])
def test_an_environment_that_changed_is_not_served(monkeypatch: pytest.MonkeyPatch, modules: tuple[str, ...]) -> None:
    server = Project.servers[modules]
    assert server.fits()
    monkeypatch.setenv("HF_HOME", "elsewhere")
    assert not server.fits()
