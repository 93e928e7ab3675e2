"""What people upload of a run is what the run made, but for what they are meant to edit."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import Project

from pipeline import cli
from pipeline.artifacts import Workspace
from pipeline.status import format_status

Descent = Callable[..., tuple[int, str]]


@pytest.fixture
def project(finished: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.chdir(finished.folder)
    return finished


@pytest.fixture
def descent(capfd: pytest.CaptureFixture[str]) -> Descent:
    def descent(*arguments: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as left:
            cli.main(list(arguments))
        assert isinstance(left.value.code, int)
        return left.value.code, capfd.readouterr().err

    return descent


def change_a_byte(path: Path) -> bytes:
    """Unseen by size and time, in a file of its own: links to it stay as they are. Returns what was there."""
    status, content = path.stat(), path.read_bytes()
    middle = len(content) // 2
    path.unlink()
    path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    return content


def model_of(project: Project) -> Path:
    return project.workspace.relative_to(project.folder) / "runs/tiny/model"


@pytest.mark.parametrize("verb", ["run", "verify"])
def test_a_changed_byte_is_found_and_put_back(project: Project, descent: Descent, verb: str) -> None:
    for path in sorted(path for path in model_of(project).iterdir() if path.name != "README.md"):
        content = change_a_byte(path)
        code, errors = descent(verb, "tiny.yaml")
        assert code == (74 if verb == "verify" else 0)
        assert path.read_bytes() == content
        assert len(lines := [line for line in errors.splitlines() if str(path) in line]) == 1
        assert lines[0].endswith("it is again as the run made it")
        assert "run again" not in errors
    assert descent("verify", "tiny.yaml") == (0, "")


def test_a_card_that_was_edited_stays_and_is_said(project: Project, descent: Descent) -> None:
    card = model_of(project) / "README.md"
    card.write_text("My words.")
    for verb, settings in (("run", []), ("verify", []), ("run", ["evaluate.samples.max_new_tokens=3"])):
        code, errors = descent(verb, "tiny.yaml", *settings)
        assert (code, card.read_text()) == (0, "My words.")
        assert f"{card} was edited and stays so" in errors
    change_a_byte(card.with_name("config.json"))
    assert descent("run", "tiny.yaml")[0] == 0
    assert card.read_text() == "My words."
    card.unlink()
    assert descent("run", "tiny.yaml")[0] == 0
    assert card.read_bytes() == (project.artifact("report") / "model_card.md").read_bytes()


def test_a_card_that_nobody_edited_is_that_of_the_last_run(project: Project, descent: Descent) -> None:
    card = model_of(project) / "README.md"
    before = card.read_bytes()
    code, errors = descent("run", "tiny.yaml", "train.max_steps=16")
    assert (code, "edited" in errors, "as the run made it" in errors) == (0, False, False)
    assert card.read_bytes() == (project.artifact("report") / "model_card.md").read_bytes() != before


def test_what_people_add_stays_unless_it_makes_another_model(project: Project, descent: Descent) -> None:
    model = model_of(project)
    for name in (".git/HEAD", ".git/config.json", "figure.png", "onnx/model.onnx"):
        (model / name).parent.mkdir(exist_ok=True)
        (model / name).write_text("mine")
    for name in ("pytorch_model.bin", "model.safetensors.index.json", "adapter/adapter_config.json", "evil.py"):
        (model / name).parent.mkdir(exist_ok=True)
        (model / name).write_text("theirs")
    (model / "link").symlink_to("/etc/passwd")
    assert descent("verify", "tiny.yaml")[0] == 74
    assert descent("verify", "tiny.yaml")[0] == 0
    others = {path.relative_to(model).as_posix() for path in model.rglob("*") if path.is_file()}
    made = {
        path.relative_to(project.artifact("train") / "model").as_posix()
        for path in (project.artifact("train") / "model").rglob("*")
    }
    assert others - made == {"README.md", ".git/HEAD", ".git/config.json", "figure.png", "onnx/model.onnx"}


def test_weights_that_are_edited_in_place_are_those_of_the_artifact_too(project: Project, descent: Descent) -> None:
    weights = model_of(project) / "model.safetensors"
    weights.unlink()
    assert descent("run", "tiny.yaml")[0] == 0
    made = project.artifact("train") / "model/model.safetensors"
    assert weights.samefile(made)
    assert not weights.stat().st_mode & 0o222
    before = project.digests()
    weights.chmod(0o644)
    with weights.open("r+b") as file:
        file.seek(1000)
        file.write(b"\0\1\2\3")
    weights.chmod(0o444)
    code, errors = descent("verify", "tiny.yaml")
    assert code == 74
    assert f"{made.relative_to(project.folder)} does not match its digest: moved to " in errors
    assert "run tiny again, which showed it" in errors
    assert descent("run", "tiny.yaml")[0] == 0
    assert descent("verify", "tiny.yaml") == (0, "")
    assert project.digests() == before
    assert weights.samefile(made)


def test_a_run_without_its_state_is_no_run_that_uses_nothing(project: Project, descent: Descent) -> None:
    state = project.workspace.relative_to(project.folder) / "runs/tiny/run.json"
    for name in ("empty", "begun"):
        (state.parents[1] / name).mkdir()
    (state.parents[1] / "begun/config.yaml").write_text("run: {name: begun}")
    assert descent("gc", "tiny.yaml")[0] == 0
    state.unlink()
    for verb in (["gc"], ["gc", "--delete"], ["verify"]):
        code, errors = descent(verb[0], "tiny.yaml", *verb[1:])
        assert code == 74
        assert f"{state} is missing or cannot be read" in errors
        assert "run it again, or remove its folder" in errors
        assert f"{state} is missing or cannot be read" in format_status(Workspace(state.parents[2]))
        assert list(project.workspace.glob("artifacts/train/*"))
    assert descent("run", "tiny.yaml")[0] == 0
    assert descent("gc", "tiny.yaml")[0] == 0


def test_names_that_only_look_like_numbers_are_none(project: Project, descent: Descent) -> None:
    (work,) = project.workspace.glob("checkpoints/*")
    for name in ("step-²", "step-٣", "step-", "step-1a", "step--1", f"step-{'9' * 200}"):
        shutil.copytree(next(work.glob("step-*")), work / name)
    shutil.rmtree(project.workspace / "artifacts/train")
    for verb in (["plan"], ["status"], ["verify"], ["gc"], ["run", "--until", "train"]):
        code, errors = descent(verb[0], "tiny.yaml", *verb[1:])
        assert code == 0, errors
    for setting in (
        "ingest.sources.².type=text",
        "ingest.sources.².type=null",
        f"ingest.sources.{'9' * 5000}.type=text",
    ):
        code, errors = descent("plan", "tiny.yaml", setting)
        assert code == 78
        assert "ingest.sources has 2 entries, counted from 0; there is no" in errors
