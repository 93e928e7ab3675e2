"""What people upload of a run is what the run made, but for what they are meant to edit."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness import Project, read_run_settings, workspace_in

from pipeline import atomic, cli
from pipeline.atomic import digest_file, read_json, sealed, write_json
from pipeline.engine.published_copies import mirror
from pipeline.engine.status import format_status
from pipeline.errors import DamageError
from pipeline.stages.train import LOADED
from pipeline.verbs.model_folder_checks import check_trained_files

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
    for verb in ("run", "verify"):
        code, errors = descent(verb, "tiny.yaml")
        assert (code, card.read_text()) == (0, "My words.")
        assert f"{card} was edited and stays so" in errors
    change_a_byte(card.with_name("config.json"))
    assert descent("run", "tiny.yaml")[0] == 0
    assert card.read_text() == "My words."
    card.unlink()
    assert descent("run", "tiny.yaml")[0] == 0
    assert card.read_bytes() == (project.artifact("report") / "model_card.md").read_bytes()


def test_an_edited_card_and_an_export_go_with_the_result_that_they_tell_of(project: Project, descent: Descent) -> None:
    card = model_of(project) / "README.md"
    export = card.parents[1] / "model-f16.gguf"
    card.write_text("My words.")
    export.write_text("exported")
    code, errors = descent("run", "tiny.yaml", "train.learning_rate=0.003")
    assert code == 0
    [earlier] = (card.parents[1] / "earlier").iterdir()
    assert f"{card} is of another training or evaluation: moved to {earlier / card.name}" in errors
    assert [(earlier / path.name).read_text() for path in (card, export)] == ["My words.", "exported"]
    assert card.read_bytes() == (project.artifact("report") / "model_card.md").read_bytes()
    assert not export.exists()
    assert descent("run", "tiny.yaml")[0] == 0
    assert (card.read_text(), export.read_text()) == ("My words.", "exported")


def test_what_people_put_there_outlives_failed_attempts_after_damage(project: Project, descent: Descent) -> None:
    card = model_of(project) / "README.md"
    head, export = card.with_name(".git") / "HEAD", card.parents[1] / "model-f16.gguf"
    (head.parent / "refs").mkdir(parents=True)
    for path in (card, head, export):
        path.write_text("mine")
    change_a_byte(next(path for path in project.artifact("evaluate").iterdir() if path.name != "manifest.json"))
    assert descent("verify", "tiny.yaml")[0] == 74
    assert descent("run", "tiny.yaml", "ingest.sources.1.text_field=none")[0] == 65
    change_a_byte(card.with_name("config.json"))  # so that the folder is replaced
    assert descent("run", "tiny.yaml")[0] == 0
    assert [path.read_text() for path in (card, head, export)] == ["mine"] * 3
    assert (head.parent / "refs").is_dir()
    assert descent("verify", "tiny.yaml")[0] == 0


def test_a_part_stays_in_view_and_vouched_for_through_a_failed_attempt(project: Project, descent: Descent) -> None:
    view, workspace = model_of(project).parents[1] / "part", workspace_in(project.workspace)
    assert descent("run", "tiny.yaml", "run.name=part", "--until", "train")[0] == 0
    diverging = ("train.learning_rate=1e30", "train.max_grad_norm=null", "train.warmup_steps=0")
    code, errors = descent("run", "tiny.yaml", "run.name=part", *diverging)
    train = project.artifact("train")
    assert code == 70
    assert f"{view} still shows training {train.name} of 24 steps" in errors
    for name in ("metrics.jsonl", "tensorboard"):
        assert (view / name).resolve() == (train / name).resolve()
    assert (view / "unfinished/metrics.jsonl").resolve().parent.parent.name == "checkpoints"
    assert f"  its folder still shows training {train.name} of 24 steps\n" in format_status(
        workspace, read_run_settings
    )
    check_trained_files(workspace, "part")
    config = view / "model/config.json"
    content = change_a_byte(config)
    with pytest.raises(DamageError, match="is not what the training made"):
        check_trained_files(workspace, "part")
    assert descent("verify", "tiny.yaml")[0] == 74
    assert config.read_bytes() == content
    state = read_json(view / "run.json")
    write_json(view / "run.json", sealed({key: state[key] for key in state.keys() - {"placed", "shown", "seal"}}))
    with pytest.raises(DamageError, match="nothing tells of which training it is"):
        check_trained_files(workspace, "part")
    code, errors = descent("verify", "tiny.yaml")
    assert (code, "nothing tells of which training it is" in errors) == (74, True)


def write(folder: Path, contents: dict[str, str]) -> dict[str, tuple[Path, str]]:
    """Files with these contents; returns what `mirror` takes."""
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return {name: (folder / name, digest_file(folder / name)) for name in contents}


def test_a_replacement_killed_at_any_moment_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = write(tmp_path / "old", {"config.json": "1", "a.safetensors": "1", "README.md": "card"})
    new = write(tmp_path / "new", {"config.json": "2", "model.safetensors": "2", "README.md": "card"})
    own = {"LICENSE.txt": "mine", ".git/HEAD": "mine", "README.md": "edited", "vocab.txt": "mine"}

    class Killed(BaseException):
        pass

    def kill_at(moment: int) -> None:
        calls = iter(range(1000))
        for module, name in ((os, "rename"), (atomic, "remove"), (atomic, "link")):
            real = getattr(module, name)

            def call(*arguments: Any, real: Callable[..., Any] = real) -> Any:
                if next(calls) == moment:
                    raise Killed
                return real(*arguments)

            monkeypatch.setattr(module, name, call)

    moment, is_done = 0, False
    while not is_done:
        folder = tmp_path / str(moment) / "model"
        mirror(old, folder, {}, digest_file, LOADED)
        write(folder, own)
        with monkeypatch.context():
            kill_at(moment)
            try:
                mirror(new, folder, old, digest_file, LOADED)
                is_done = True
            except Killed:
                pass
            monkeypatch.undo()
        for path in folder.parent.glob(".tmp-*"):  # as the next run does
            atomic.remove(path)
        mirror(new, folder, old, digest_file, LOADED)
        aside = folder.with_name("aside-model-1")
        found = {name: (folder / name).read_text() for name in atomic.list_files(folder)}
        expected = {"config.json": "2", "model.safetensors": "2", **own}
        assert found == {name: value for name, value in expected.items() if name != "vocab.txt"}, moment
        assert (aside / "vocab.txt").read_text() == "mine"
        assert {path.name for path in folder.parent.iterdir()} == {"model", "aside-model-1"}
        moment += 1
    assert moment > 8


def test_where_nothing_tells_what_a_folder_held_all_is_moved_aside(tmp_path: Path) -> None:
    new, folder = write(tmp_path / "new", {"config.json": "2", "README.md": "card"}), tmp_path / "model"
    template = "additional_chat_templates/tools.jinja"
    write(folder, {"config.json": "1", "README.md": "mine", "model.safetensors": "1", "notes.txt": "", template: ""})
    found = mirror(new, folder, {}, digest_file, LOADED)
    assert found.aside == tmp_path / "aside-model-1"
    assert {*atomic.list_files(found.aside)} == {"config.json", "README.md", "model.safetensors", template}
    assert {*atomic.list_files(folder)} == {"config.json", "README.md", "notes.txt"}
    mirror({}, folder, new, digest_file, LOADED)
    assert not folder.exists()
    assert atomic.list_files(tmp_path / "aside-model-2") == ["notes.txt"]


def test_a_card_that_nobody_edited_is_that_of_the_last_run(project: Project, descent: Descent) -> None:
    card = model_of(project) / "README.md"
    before = card.read_bytes()
    code, errors = descent("run", "tiny.yaml", "train.max_steps=16")
    assert (code, "edited" in errors, "as the run made it" in errors) == (0, False, False)
    assert card.read_bytes() == (project.artifact("report") / "model_card.md").read_bytes() != before


def test_what_people_add_stays_unless_it_makes_another_model(project: Project, descent: Descent) -> None:
    model = model_of(project)
    own = (".git/HEAD", ".git/config.json", "figure.png", "onnx/model.onnx", "LICENSE.txt", "handler.py", "eval.json")
    for name in own:
        (model / name).parent.mkdir(exist_ok=True)
        (model / name).write_text("mine")
    theirs = ("pytorch_model.bin", "model.safetensors.index.json", "adapter/adapter_config.json")
    for name in theirs:
        (model / name).parent.mkdir(exist_ok=True)
        (model / name).write_text("theirs")
    (model / "link").symlink_to("/etc/passwd")
    code, errors = descent("verify", "tiny.yaml")
    assert code == 74
    for name in (*theirs, "link"):
        aside = model.with_name("aside-model-1")
        assert f"{model / name} is not of this run: moved to {aside}; it is again" in errors
        assert os.path.lexists(aside / name)
    assert "run again" not in errors
    assert descent("verify", "tiny.yaml")[0] == 0
    others = {path.relative_to(model).as_posix() for path in model.rglob("*") if path.is_file()}
    made = {
        path.relative_to(project.artifact("train") / "model").as_posix()
        for path in (project.artifact("train") / "model").rglob("*")
    }
    assert others - made == {"README.md", *own}


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
        assert f"{state} is missing or cannot be read" in format_status(
            workspace_in(state.parents[2]), read_run_settings
        )
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
