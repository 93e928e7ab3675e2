"""Workspaces and folders that somebody prepared to do harm: nothing is executed, written or deleted outside."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import Project

from pipeline import cli
from pipeline.config.loading import load_config
from pipeline.errors import ConfigError


class Evil:
    """Leaves a mark when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(Path("pwned").absolute()),)


Descent = Callable[..., tuple[int, str, str]]


@pytest.fixture
def project(finished: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """The finished run, beside a folder that must not change."""
    monkeypatch.chdir(finished.folder)
    for name in ("canary", "0123456789abcdef/canary", "step-00000099/canary"):
        path = outside(finished) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("alive")
    return finished


def outside(project: Project) -> Path:
    return project.folder.parent / "outside"


def assert_unharmed(project: Project) -> None:
    files = sorted(path for path in outside(project).rglob("*") if path.is_file() or path.is_symlink())
    names = [path.relative_to(outside(project)).as_posix() for path in files]
    assert names == ["0123456789abcdef/canary", "canary", "step-00000099/canary"]
    assert {path.read_text() for path in files} == {"alive"}
    assert not Path("pwned").exists()


@pytest.fixture
def descent(capfd: pytest.CaptureFixture[str]) -> Descent:
    def descent(*arguments: str) -> tuple[int, str, str]:
        if "accelerate.state" in sys.modules:  # of a training in another test, perhaps in another precision
            sys.modules["accelerate.state"].AcceleratorState._reset_state(reset_partial_state=True)
        with pytest.raises(SystemExit) as left:
            cli.main(list(arguments))
        assert isinstance(left.value.code, int)
        streams = capfd.readouterr()
        assert "Traceback" not in streams.err
        assert "internal error" not in streams.err
        return left.value.code, streams.out, streams.err

    return descent


def replace_by_link(path: Path, target: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    path.symlink_to(target)


@pytest.mark.parametrize("name", ["../x", "/x", "a/b", "..", ".", "", "a\\b", "a b", "~", "-x", "a" * 101, "a\n", "ä"])
def test_a_run_cannot_be_named_out_of_its_folder(project: Project, name: str) -> None:
    with pytest.raises(ConfigError, match=r"command line: run\.name: got"):
        load_config(Path("tiny.yaml"), [f"run.name={json.dumps(name)}"])


@pytest.mark.parametrize(
    "folder", ["artifacts", "artifacts/pack", "checkpoints", "checkpoints/KEY", "runs", "runs/tiny", "locks"]
)
def test_folders_that_are_links_out_of_the_workspace_are_not_written_to(
    project: Project, descent: Descent, folder: str
) -> None:
    folder = folder.replace("KEY", project.artifact("train").name)
    project.forget_from("pack")
    (project.workspace / "checkpoints").mkdir()
    replace_by_link(project.workspace / folder, outside(project))
    code, _, errors = descent("run", "tiny.yaml", "--until", "train")
    assert code == 74
    assert f"descent: workspace/{folder}: is a link out of the workspace" in errors
    assert_unharmed(project)
    assert descent("plan", "tiny.yaml")[0] == 0
    for verb in (["status"], ["verify"], ["gc"], ["gc", "--delete"]):
        code, _, _ = descent(verb[0], "tiny.yaml", *verb[1:])
        assert code in (0, 74)
        assert_unharmed(project)


def test_links_inside_a_workspace_are_allowed(project: Project, descent: Descent) -> None:
    os.rename(project.workspace / "artifacts", project.workspace / "elsewhere")
    (project.workspace / "artifacts").symlink_to("elsewhere")
    assert descent("run", "tiny.yaml")[0] == 0


def test_the_view_of_a_run_is_made_anew_where_links_were_planted(project: Project, descent: Descent) -> None:
    view = project.workspace / "runs/tiny"
    for name in ("model", ".tmp-model", "report.html", ".tmp-report.html", "tensorboard", "hparams", "metrics.jsonl"):
        replace_by_link(view / name, outside(project))
    for name in ("config.yaml", "run.json"):
        replace_by_link(view / name, outside(project) / "canary")
    assert descent("run", "tiny.yaml")[0] == 0
    assert_unharmed(project)
    assert (view / "model/config.json").is_file()
    assert not (view / "model").is_symlink()
    assert not (view / "config.yaml").is_symlink()


def test_links_planted_in_a_training_in_progress_are_refused(project: Project, descent: Descent) -> None:
    work = project.workspace / "checkpoints" / project.artifact("train").name
    shutil.rmtree(project.workspace / "artifacts/train")
    for name in ("metrics.jsonl", "tensorboard", "step-00000099"):
        kept = shutil.copytree(work, "kept", symlinks=True)
        replace_by_link(
            work / name, outside(project) / name if name.startswith("step") else outside(project) / "canary"
        )
        code, _, errors = descent("run", "tiny.yaml", "--until", "train")
        assert code == 74
        assert f"{work.name}/{name}: is a link out of the workspace" in errors
        assert_unharmed(project)
        shutil.rmtree(work)
        os.rename(kept, work)


def test_notes_of_who_holds_a_lock_are_not_written_through_links(project: Project, descent: Descent) -> None:
    replace_by_link(project.workspace / "locks/run-tiny.holder", outside(project) / "canary")
    replace_by_link(project.workspace / f"locks/.tmp-{os.getpid()}-run-tiny.holder", outside(project) / "canary")
    assert descent("run", "tiny.yaml")[0] == 0
    assert_unharmed(project)
    replace_by_link(project.workspace / "locks/run-tiny.lock", outside(project) / "canary")
    assert descent("run", "tiny.yaml")[0] == 74
    assert_unharmed(project)


def test_gc_deletes_links_not_what_they_lead_to(project: Project, descent: Descent) -> None:
    links = [
        project.workspace / "artifacts/pack/0123456789abcdef",
        project.workspace / "artifacts/pack/aside-0123456789abcdef-1",
        project.workspace / "artifacts/pack/.tmp-0123456789abcdef-1",
        project.workspace / "checkpoints/0123456789abcdef",
    ]
    for link in links:
        link.symlink_to(outside(project))
    assert descent("gc", "tiny.yaml", "--delete")[0] == 0
    assert_unharmed(project)
    assert not [link for link in links if link.is_symlink()]
    assert set(project.actions().values()) == {"reuse"}


def test_gc_follows_no_path_in_a_run(project: Project, descent: Descent) -> None:
    good = project.state()["stages"]
    for stages in ({"../../outside": {"key": "0123456789abcdef"}}, {"pack": {"key": "../../../outside"}}):
        project.write_state(stages=stages)
        code, _, errors = descent("gc", "tiny.yaml", "--delete")
        assert code == 74
        assert "run.json is missing or cannot be read, so what it uses is not known" in errors
        assert_unharmed(project)
    project.write_state(stages=good, training="../../outside")
    assert descent("gc", "tiny.yaml", "--delete")[0] == 0
    assert_unharmed(project)
    assert set(project.actions().values()) == {"reuse"}


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "optimizer.bin"])
def test_pickles_in_a_model_are_never_loaded(project: Project, descent: Descent, name: str) -> None:
    model = project.workspace / "runs/tiny/model"
    (model / "model.safetensors").unlink()
    (model / name).write_bytes(pickle.dumps(Evil()))
    code, _, errors = descent("generate", "tiny.yaml", "--prompt", "The")
    assert code == 74
    assert len(errors.splitlines()) == 1
    assert "model.safetensors" in errors
    assert_unharmed(project)


def test_pickles_that_an_index_or_an_adapter_names_are_never_loaded(project: Project, descent: Descent) -> None:
    model = project.workspace / "runs/tiny/model"
    (model / "w.bin").write_bytes(pickle.dumps(Evil()))
    (model / "model.safetensors").rename(model / "part.safetensors")
    index = {"weight_map": {"lm_head.weight": "w.bin", "model.norm.weight": "part.safetensors"}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    code, _, errors = descent("generate", "tiny.yaml", "--prompt", "The")
    assert code == 74
    assert "model.safetensors.index.json names 'w.bin'" in errors
    (model / "model.safetensors.index.json").unlink()
    for name in ("base", "adapter"):
        shutil.copytree(project.artifact("train") / "model", model / name)
    (model / "adapter/adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "task_type": "CAUSAL_LM"}))
    (model / "adapter/adapter_model.bin").write_bytes(pickle.dumps(Evil()))
    code, _, errors = descent("generate", "tiny.yaml", "--prompt", "The")
    assert code == 74
    assert "has no adapter_model.safetensors, and no other format is read" in errors
    assert_unharmed(project)


def test_pickles_in_a_checkpoint_are_never_loaded(project: Project, descent: Descent) -> None:
    (checkpoints,) = (project.workspace / "checkpoints").iterdir()
    newest = max(checkpoints.glob("step-*"))
    before = project.digests()
    for name in ("optimizer.bin", "random_states_0.pkl", "scheduler.pt"):
        (newest / name).write_bytes(pickle.dumps(Evil()))
    shutil.rmtree(project.workspace / "artifacts/train")
    assert descent("run", "tiny.yaml", "--until", "train")[0] == 0
    assert newest.with_name(f"broken-{newest.name}").exists()
    assert_unharmed(project)
    assert project.digests()["train"] == before["train"]


def test_code_planted_in_a_model_is_never_run(project: Project, descent: Descent) -> None:
    model = project.workspace / "runs/tiny/model"
    code = "import os\nos.mkdir({!r})\nfrom transformers import LlamaConfig as C, LlamaForCausalLM as M\n"
    (model / "evil.py").write_text(code.format(str(Path("pwned").absolute())))
    for name, entry in (("config.json", {"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.M"}),):
        values = json.loads((model / name).read_text())
        (model / name).write_text(json.dumps({**values, "model_type": "evil", "auto_map": entry}))
    left, _, errors = descent("generate", "tiny.yaml", "--prompt", "The")
    assert left == 78
    assert "evil.py: the run did not make this code" in errors
    assert_unharmed(project)
    (model / "evil.py").unlink()
    left, _, errors = descent("generate", "tiny.yaml", "--prompt", "The")
    assert left == 74
    assert len(errors.splitlines()) == 1
    assert_unharmed(project)


@pytest.mark.parametrize("text", ["[" * 100_000, "{}", "", '{"model": {"type": "BPE"}}', "\x00", "x" * 1_000_000])
def test_a_tokenizer_that_is_none_is_an_error(project: Project, descent: Descent, text: str) -> None:
    (project.workspace / "runs/tiny/model/tokenizer.json").write_text(text)
    code, _, errors = descent("generate", "tiny.yaml", "--prompt", "The")
    assert code == 74
    assert len(errors.splitlines()) == 1
    assert len(errors) < 1000


def test_escape_sequences_in_names_of_files_are_not_sent_to_the_terminal(project: Project, descent: Descent) -> None:
    Path("texts/a\x1b[31m\u202eb.txt").write_text("A text of some words that is long enough to be read by everybody.\n")
    code, out, errors = descent("plan", "tiny.yaml")
    assert code == 0
    assert "source texts/a\\x1b[31m\\u202eb.txt added" in out
    assert "\x1b" not in out + errors
    assert "\u202e" not in out + errors


def test_a_workspace_that_is_none(project: Project, descent: Descent) -> None:
    Path("file").write_text("a file")
    for verb in ("run", "plan", "status", "gc", "verify"):
        code, _, errors = descent(verb, "tiny.yaml", "run.workspace=file")
        assert (code, errors) == (74, "descent: run.workspace: file is no folder; name one\n")
    assert Path("file").read_text() == "a file"
