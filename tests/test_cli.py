"""The command line: exit codes, and one line for each mistake."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.engine import plan, runner
from pipeline.errors import BadDataError, DivergedError, InterruptedRun, InterruptedUnsaved
from pipeline.stages import STAGES

ROOT = Path(__file__).parents[1]
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
    ("error", "code", "message"),
    [
        (BadDataError("a.jsonl: 3 of 4 records were rejected"), 65, "descent: a.jsonl: 3 of 4 records were rejected"),
        (DivergedError("loss is nan at step 3"), 70, "descent: loss is nan at step 3"),
        (InterruptedRun("saved at step 3"), 75, "descent: saved at step 3"),
        (InterruptedUnsaved(2), 130, "descent: interrupted; nothing of the stage in progress was saved, run again"),
        (KeyError("x"), 70, "descent: internal error: KeyError: 'x' (--debug shows where)"),
        (SystemExit(0), 70, "descent: internal error: Panic: SystemExit: 0 (--debug shows where)"),
        (KeyboardInterrupt(), 70, "descent: internal error: KeyboardInterrupt: no message (--debug shows where)"),
        (BrokenPipeError(errno.EPIPE, "to a worker"), 70, r"descent: internal error: BrokenPipeError: .* worker"),
        (
            OSError(errno.ENOSPC, "No space", "workspace/a"),
            74,
            r"descent: workspace/a: the disk is full: more space is needed, [\d,]+ bytes are free",
        ),
        (OSError(errno.EIO, "x", "workspace/a"), 74, "descent: workspace/a: Input/output error"),
        (OSError(errno.EROFS, "x", "workspace/a"), 74, "descent: workspace/a: Read-only file system"),
        (Exception("Permission denied (os error 13)"), 74, "descent: workspace: Permission denied; mend it"),
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
    state = json.loads(Path("workspace/runs/tiny/run.json").read_text())
    assert state["exit_code"] == code
    assert lines[0].removeprefix("descent: ").startswith(state["message"])
    assert "Traceback" in CliRunner().invoke(app, ["run", config, "--debug"]).stderr


def test_a_missing_configuration_exits_66(config: str) -> None:
    result = CliRunner().invoke(app, ["plan", "gone.yaml"])
    assert result.exit_code == 66
    assert result.stderr == "descent: gone.yaml: no such configuration file\n"


def test_control_characters_of_a_message_do_not_reach_the_terminal(
    config: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise BadDataError("a\x1b[31m\u202e.txt: bad\x07\nand b\r: bad")

    monkeypatch.setattr(runner, "_execute", fail)
    errors = CliRunner().invoke(app, ["run", config]).stderr
    assert errors == "descent: a\\x1b[31m\\u202e.txt: bad\\x07\ndescent: and b\\r: bad\n"


def test_names_of_files_that_are_no_text_can_be_shown(config: str, tmp_path: Path) -> None:
    (tmp_path / "é").mkdir()
    command = [sys.executable, "-m", "pipeline", "status", "run.yaml", "run.workspace=é"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "workspace \\xe9" in done.stdout


@pytest.mark.parametrize("module", ["typer", "pydantic", "pipeline.config.loading"])
@pytest.mark.parametrize("start", ["pipeline/__main__.py", "scripts/run_pipeline.py"])
def test_an_interrupt_during_imports_leaves_no_traceback(config: str, tmp_path: Path, start: str, module: str) -> None:
    """The signal arrives when `module` is about to be imported."""
    program = f"""if True:
        import os, runpy, signal, sys
        signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where tests run in the background
        class Interrupting:
            def find_spec(self, name, path, target=None):
                if name == {module!r}:
                    os.kill(os.getpid(), signal.SIGINT)
        sys.meta_path.insert(0, Interrupting())
        sys.argv[1:] = ["run", "run.yaml"] if "__main__" in {start!r} else ["run.yaml"]
        runpy.run_path({str(ROOT / start)!r}, run_name="__main__")
    """
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 130, done.stderr
    assert re.fullmatch("descent: interrupted.*\n", done.stderr)


def test_plan_of_an_empty_workspace_runs_nothing_and_writes_nothing(config: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["plan", config])
    assert result.exit_code == 0
    assert "no earlier artifact of this run" in result.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["run.yaml"]


def test_a_plan_gives_a_few_of_many_reasons() -> None:
    reasons = tuple(f"curate.setting_{number} 0 -> 1" for number in range(40))
    (line,) = plan.format_plan([plan.PlannedStage(STAGES[2], "run", reasons)]).splitlines()
    assert line.endswith("setting_3 0 -> 1; curate.setting_4 0 -> 1; and 35 more, which `descent explain` lists")


def test_the_first_of_the_stages_that_wait_stands_for_all_in_a_plan() -> None:
    steps = [plan.PlannedStage(STAGES[0], "run", ("changed",))]
    reason = "whether it has to run is known once ingest has run"
    steps += [plan.PlannedStage(stage, "unknown", (reason,)) for stage in STAGES[1:4]]
    lines = plan.format_plan(steps).splitlines()
    assert [line.split() for line in lines] == [
        ["ingest", "run", "changed"],
        ["normalize", "unknown", *reason.split()[:-1], "run;", "the", "same", "for", "curate,", "augment"],
    ]
    assert plan.format_plan(steps[:2]).splitlines()[1].endswith(reason)


def test_a_plan_repeats_what_an_artifact_warns_of_and_says_what_settings_foretell() -> None:
    reused = plan.PlannedStage(STAGES[5], "reuse", warnings=("half of the text is lost",))
    planned = plan.PlannedStage(STAGES[4], "run", ("no earlier artifact",), warnings=("may lose\ttext",))
    lines = plan.format_plan([planned, reused]).splitlines()
    assert lines[2:] == ["warning: tokenizer: may lose\\ttext", "warning: encode: half of the text is lost"]
    assert reused.as_json()["warnings"] == ["half of the text is lost"]


def test_an_interrupt_while_python_ends_changes_nothing() -> None:
    code = (
        "import atexit, os, signal; from pipeline.main import main\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "atexit.register(os.kill, os.getpid(), signal.SIGINT); main(['--version'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("verb", ["status", "verify", "gc", "diff"])
def test_a_workspace_that_is_not_there_is_an_error(config: str, verb: str) -> None:
    """Not one in which every file is as its manifest says."""
    result = CliRunner().invoke(app, [verb, config, *(["tiny"] if verb == "diff" else []), "run.workspace=workspce"])
    told = f"descent: run.workspace: there is no workspce in {Path.cwd()}; descent run makes it\n"
    assert (result.exit_code, result.stdout, result.stderr) == (66, "", told)


@pytest.mark.parametrize("arguments", [["-h"], ["plan", "-h"]])
def test_help_has_a_short_name(arguments: list[str]) -> None:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0
    assert result.stdout.startswith("Usage: ")
