"""What killed processes leave behind: swept by whoever does their work next, and by gc; never what somebody holds."""

from __future__ import annotations

from pathlib import Path

import pytest
from filelock import FileLock
from harness import Project, workspace_in

from pipeline.engine import maintenance


@pytest.fixture
def leftovers(finished: Project, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """One of each kind, in a finished project, in whose folder the test runs."""
    monkeypatch.chdir(finished.folder)
    pack, train = (finished.artifact(stage).name for stage in ("pack", "train"))
    root = Path("workspace")
    files = [
        root / "locks" / f"pack-{pack}.holder",
        root / "locks" / f".tmp-77-pack-{pack}.holder",
        root / "runs/tiny/.tmp-77-run.json",
        root / "checkpoints" / train / ".tmp-77-identity.json",
    ]
    folders = [
        root / "artifacts/pack" / f".tmp-{pack}-77",
        root / "runs/tiny/.tmp-model",
        root / "checkpoints" / train / ".tmp-step-00000008-77",
    ]
    for path in files:
        path.write_text("process 77 on nowhere")
    for folder in folders:
        folder.mkdir()
        (folder / "half").write_text("half")
    return [*files, *folders]


def test_gc_lists_and_deletes_them_but_none_of_work_in_progress(finished: Project, leftovers: list[Path]) -> None:
    workspace = workspace_in(Path("workspace"))
    key = finished.artifact("pack").name
    with workspace.lock("pack", key, lambda holder: None):
        (Path("workspace/artifacts/pack") / f".tmp-{key}-78").mkdir()
        listed = {item.folder for item in maintenance.find_unused(workspace)}
        assert not [path for path in listed if key in path.name]
    listed = {item.folder for item in maintenance.find_unused(workspace)}
    assert Path(f"workspace/artifacts/pack/.tmp-{key}-78") in listed
    maintenance.delete(maintenance.find_unused(workspace))
    assert not [path for path in Path("workspace").rglob(".tmp-*")]
    assert not list(Path("workspace/locks").glob("*.holder"))


def test_the_next_holder_of_a_lock_sweeps_what_was_left_of_its_work(finished: Project, leftovers: list[Path]) -> None:
    workspace = workspace_in(Path("workspace"))
    digests = workspace.root / ".tmp-77-digests.json"
    digests.write_text("{")
    keys = {stage: finished.artifact(stage).name for stage in ("train", "pack")}
    for stage, key in {"run": "tiny", **keys}.items():
        with workspace.lock(stage, key, lambda holder: None):
            pass
    assert not [path for path in (*leftovers, digests) if path.exists()]


@pytest.mark.parametrize("arguments", [(), ("--only", "encode")])
def test_a_run_that_reuses_an_artifact_sweeps_what_its_builder_left(finished: Project, arguments: tuple[str]) -> None:
    """Killed between the last rename of its artifact and the end of its lock; not while somebody holds that."""
    keys = {stage: finished.artifact(stage).name for stage in ("tokenizer", "encode", "curate")}
    holders = {stage: finished.workspace / "locks" / f"{stage}-{key}.holder" for stage, key in keys.items()}
    for path in holders.values():
        path.write_text("process 77 on nowhere")
    with FileLock(finished.workspace / "locks" / f"curate-{keys['curate']}.lock"):
        finished.run(*arguments)
    assert [stage for stage, path in holders.items() if path.exists()] == ["curate"]


def test_a_folder_in_the_place_of_a_holder_is_no_hindrance(tmp_path: Path) -> None:
    workspace = workspace_in(tmp_path)
    (tmp_path / "locks/pack-0123456789abcdef.holder/inside").mkdir(parents=True)
    with workspace.lock("pack", "0123456789abcdef", lambda holder: None):
        assert (tmp_path / "locks/pack-0123456789abcdef.holder").is_file()
    assert not (tmp_path / "locks/pack-0123456789abcdef.holder").exists()
