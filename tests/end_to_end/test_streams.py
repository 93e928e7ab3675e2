"""Standard streams that are closed, full or broken lose no work, and no output in silence."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from harness import PATIENCE_SECONDS, Project, Result, default_signals, tells

from pipeline import cli

FULL = Path("/dev/full")
pytestmark = pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")

VERBS: dict[str, tuple[str, ...]] = {
    "help": ("--help",),
    "version": ("--version",),
    "init": ("init",),
    "run": ("run", "tiny.yaml"),
    "plan": ("plan", "tiny.yaml"),
    "status": ("status", "tiny.yaml"),
    "explain": ("explain", "tiny.yaml", "train"),
    "diff": ("diff", "tiny.yaml", "tiny", "tiny"),
    "ablate": ("ablate", "--help"),  # it needs more test documents than there are, and several runs
    "report": ("report", "tiny.yaml"),
    "verify": ("verify", "tiny.yaml"),
    "gc": ("gc", "tiny.yaml"),
    "schema": ("schema",),
    "estimate": ("estimate", "tiny.yaml"),
    "generate": ("generate", "tiny.yaml", "--prompt", "The", "--max-new-tokens", "1"),
    "replay": ("replay", "autopsy"),
    "export": ("export", "tiny.yaml"),
    "anatomy": ("anatomy", "tiny.yaml"),
}
SLOW = ("estimate", "generate", "replay", "export", "anatomy")
"""Those that import torch, which takes longer than all others together."""

LOST = "descent: standard output: {}: what the command says there is lost; mend it and run again\n"
SAID = {"closed": LOST.format("Bad file descriptor"), "full": LOST.format("No space left on device"), "broken": ""}
"""What is said of a standard output of each kind. Where nobody reads any more, as behind `| head`, nothing is."""


@contextmanager
def made(kind: str, number: int) -> Iterator[dict[str, Any]]:
    """Options of Popen that make one of its streams closed, full or broken; open streams are pipes."""
    name = {1: "stdout", 2: "stderr"}[number]
    if kind == "full":
        with FULL.open("w") as full:
            yield {name: full}
    elif kind == "broken":
        reader, writer = os.pipe()
        os.close(reader)
        yield {name: writer}
        os.close(writer)
    else:
        yield {name: subprocess.PIPE}


def descent(project: Project, arguments: tuple[str, ...], out: str = "", err: str = "", command: Any = ()) -> Result:
    """Carry out a command whose streams are what `out` and `err` say; "" is a pipe."""

    def prepare() -> None:
        default_signals()
        for number, kind in ((1, out), (2, err)):
            if kind == "closed":
                os.close(number)

    with ExitStack() as stack:
        streams = stack.enter_context(made(out, 1)) | stack.enter_context(made(err, 2))
        process = project.start(*arguments, command=command, preexec_fn=prepare, **streams)
        texts = process.communicate(timeout=PATIENCE_SECONDS)
    return Result(process.returncode, *(text or "" for text in texts))


CASES = [
    pytest.param(verb, kind, marks=pytest.mark.slow if verb in SLOW else (), id=f"{verb}-{kind}")
    for verb in VERBS
    for kind in (SAID if verb == "plan" else ("full",))
]
"""Every verb with a full stream, and one with those of all kinds."""


@pytest.fixture(scope="module")
def with_autopsy(finished_once: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The finished run, and one that diverged."""
    project = finished_once.copy(tmp_path_factory.mktemp("streams") / "copy")
    bad = project.descent("run", "tiny.yaml", "run.name=bad", "train.learning_rate=1e12")
    [folder] = project.workspace.glob("checkpoints/*/autopsy/step-*")
    assert bad.code == 70
    shutil.copytree(folder, project.folder / "autopsy")
    return project


def project_for(verb: str, request: pytest.FixtureRequest) -> Project:
    found: Project = request.getfixturevalue("with_autopsy" if verb == "replay" else "finished")
    return found


def test_every_verb_is_in_the_table() -> None:
    assert {verb.__name__ for verb in cli.VERBS} == set(VERBS) - {"help", "version"}


@pytest.mark.parametrize(("verb", "kind"), CASES)
def test_a_command_whose_output_is_lost_says_so_and_fails(request: pytest.FixtureRequest, verb: str, kind: str) -> None:
    project = project_for(verb, request)
    told = descent(project, VERBS[verb], out=kind)
    assert (told.code, told.err) == (74, SAID[kind])
    assert descent(project, VERBS[verb], out=kind, err=kind).code == 74


@pytest.mark.parametrize(("verb", "kind"), CASES)
def test_a_command_does_not_need_standard_error(request: pytest.FixtureRequest, verb: str, kind: str) -> None:
    project = project_for(verb, request)
    usual = descent(project, VERBS[verb])
    assert usual.code == 0, usual.err
    assert usual.out
    again = descent(project, VERBS[verb], err=kind)
    assert (again.code, again.err) == (0, "")
    assert again.out.replace(", unchanged", "") == usual.out  # as an export says that is there already


@pytest.mark.parametrize("kind", SAID)
def test_a_mistake_keeps_its_exit_code_where_nothing_can_be_said(finished: Project, kind: str) -> None:
    assert descent(finished, ("plan", "tiny.yaml", "train.learning_rat=1"), kind, kind).code == 78
    assert descent(finished, ("plan", "gone.yaml"), kind, kind).code == 66
    assert descent(finished, ("play",), kind, kind).code == 2


@pytest.mark.parametrize(
    ("out", "err"),
    [
        ("", "full"),
        ("broken", "broken"),  # 2>&1 | true
        pytest.param("", "closed", marks=pytest.mark.slow),
        pytest.param("closed", "closed", marks=pytest.mark.slow),
        pytest.param("full", "", marks=pytest.mark.slow),
    ],
)
def test_a_run_is_carried_out_whatever_becomes_of_its_streams(finished: Project, out: str, err: str) -> None:
    undisturbed = finished.digests()
    finished.forget_from("ingest")
    result = descent(finished, ("run", "tiny.yaml"), out, err)
    assert result.code == (74 if out else 0), result.err
    assert (finished.state()["outcome"], finished.state()["exit_code"]) == ("done", 0)
    assert {entry["outcome"] for entry in finished.state()["stages"].values()} == {"built"}
    assert finished.digests() == undisturbed


def test_standard_input_that_cannot_be_read_is_named(finished: Project) -> None:
    with (finished.folder / "write-only").open("w") as file:
        process = finished.start("generate", "tiny.yaml", stdin=file)
        _, errors = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 74
    assert tells(errors, "standard input", "Bad file descriptor", "--prompt")
