"""The command line: usage errors, exit codes, and one line for each mistake."""

from __future__ import annotations

import errno
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline import runner
from pipeline.cli import app
from pipeline.errors import BadDataError, DivergedError, InterruptedRun, InterruptedUnsaved

CONFIG = """\
run: {name: tiny}
ingest: {sources: [{name: docs, type: python_docs}]}
model: {architecture: llama}
train: {max_steps: 1}
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.yaml").write_text(CONFIG)
    return "run.yaml"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["run"], "Missing argument"),
        (["run", "run.yaml", "--only", "trian"], "unknown stage 'trian'; did you mean train?"),
        (["run", "run.yaml", "--only", "train", "--from", "pack"], "cannot be combined"),
        (["run", "run.yaml", "--from", "train", "--until", "pack"], "train comes after pack"),
        (["run", "run.yaml", "--only", "train", "--force", "pack"], "pack is not among the stages to run"),
        (["run", "run.yaml", "--frm", "train"], "No such option"),
        (["rnu", "run.yaml"], "No such command"),
    ],
)
def test_usage_errors_exit_2(config: str, arguments: list[str], expected: str) -> None:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert expected in " ".join(result.output.split())


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (BadDataError("a.jsonl: 3 of 4 records were rejected"), 65, "descent: a.jsonl: 3 of 4 records were rejected"),
        (DivergedError("loss is nan at step 3"), 70, "descent: loss is nan at step 3"),
        (InterruptedRun("saved at step 3"), 75, "descent: saved at step 3"),
        (InterruptedUnsaved(2), 130, "descent: interrupted; nothing of the stage in progress was saved, run again"),
        (KeyError("x"), 70, "descent: internal error: KeyError: 'x' (--debug shows where)"),
        (
            OSError(errno.ENOSPC, "No space", "workspace/a"),
            74,
            r"descent: workspace/a: the disk is full \([\d,.]+ MB free\)",
        ),
        (OSError(errno.EIO, "x", "workspace/a"), 74, "descent: workspace/a: Input/output error"),
    ],
)
def test_errors_print_one_line_and_leave_with_their_code(
    config: str, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, message: str
) -> None:
    def fail(*arguments: object) -> None:
        raise error

    monkeypatch.setattr(runner, "_execute", fail)
    result = CliRunner().invoke(app, ["run", config])
    assert result.exit_code == code
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1
    assert re.match(message.replace("(--debug", r"\(--debug").replace("where)", r"where\)"), lines[0])
    assert "Traceback" in CliRunner().invoke(app, ["run", config, "--debug"]).stderr


def test_a_missing_configuration_exits_66(config: str) -> None:
    result = CliRunner().invoke(app, ["plan", "gone.yaml"])
    assert result.exit_code == 66
    assert result.stderr == "descent: gone.yaml: no such configuration file\n"


def test_plan_of_an_empty_workspace_runs_nothing_and_writes_nothing(config: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["plan", config])
    assert result.exit_code == 0
    assert "no earlier artifact" in result.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["run.yaml"]
