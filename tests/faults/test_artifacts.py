"""Damaged artifacts, checkpoints and records: found, set aside, built again, and never a traceback."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import STAGES, Project, read_run_settings, select, workspace_in

from pipeline.atomic import sealed
from pipeline.config.loading import load_config
from pipeline.engine import maintenance
from pipeline.engine.artifacts import Workspace
from pipeline.engine.plan import plan
from pipeline.engine.runner import run
from pipeline.engine.status import format_status
from pipeline.errors import StorageError
from pipeline.progress import Progress
from pipeline.training.checkpointing.checkpoints import newest_valid

DAMAGE = ("truncate", "flip", "empty", "delete")


def damaged(content: bytes, kind: str, seed: int = 0) -> bytes | None:
    if kind == "delete" or (kind != "flip" and len(content) < 2):
        return None
    if kind == "flip":
        position = (seed * 7919 + len(content) // 3) % len(content)
        return content[:position] + bytes([content[position] ^ (1 << seed % 8)]) + content[position + 1 :]
    return content[: len(content) // 2] if kind == "truncate" else b""


@pytest.fixture
def project(finished: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.chdir(finished.folder)
    return finished


@pytest.fixture
def workspace(project: Project) -> Workspace:
    return workspace_in(Path("workspace"))


def verify(workspace: Workspace) -> list[str]:
    return maintenance.verify(workspace, Progress("verify", stream=open(os.devnull, "w")))


def actions(project: Project) -> dict[str, str]:
    config = load_config(Path("tiny.yaml"))
    return {step.stage.name: step.action for step in plan(config, select())}


@pytest.mark.parametrize("stage", STAGES)
def test_damage_in_any_file_of_an_artifact_is_found(project: Project, workspace: Workspace, stage: str) -> None:
    folder = project.artifact(stage).relative_to(project.folder)
    names = [*json.loads((folder / "manifest.json").read_text())["files"], "manifest.json"]
    num_cases = 0
    for number, name in enumerate(names):
        for kind in DAMAGE:
            path = folder / name
            content = path.read_bytes()
            if not content:
                continue
            new = damaged(content, kind, number)
            path.unlink()
            if new is not None:
                path.write_bytes(new)
            manifest, problem = workspace.find(stage, folder.name)
            shows_at_once = name == "manifest.json" or new is None or len(new) != len(content)
            assert (manifest is None) == shows_at_once, (name, kind)
            assert bool(problem) == shows_at_once
            found = verify(workspace)
            assert len(found) == 1, (name, kind, found)
            assert str(folder if name == "manifest.json" else path) in found[0]
            assert not folder.exists()
            (aside,) = folder.parent.glob("aside-*")
            os.rename(aside, folder)
            path.unlink(missing_ok=True)
            path.write_bytes(content)
            num_cases += 1
    assert num_cases >= 4 * (len(names) - 1)
    assert verify(workspace) == []


def reseal(value: dict[str, Any]) -> dict[str, Any]:
    """With a seal that fits, as somebody who means harm would write it."""
    return sealed({name: item for name, item in value.items() if name != "seal"})


def strange_manifests(good: dict[str, Any]) -> Iterator[tuple[str, bytes]]:
    for text in ("", "[]", "null", '"x"', "3", "{}", "{", "\x00", "[" * 100_000, "9" * 5000, '{"format": NaN}'):
        yield f"text {text[:10]!r}", text.encode()
    yield "not UTF-8", b"\xff\xfe" + json.dumps(good).encode()
    yield "unsealed", json.dumps({**good, "started": good["started"] + 1}).encode()
    for name in good:
        if name != "seal" and good[name] is not None:
            yield f"without {name}", json.dumps({**good, name: None}).encode()
    for name in ("key", "stage", "files", "input_keys", "digest", "started", "seconds", "version", "section", "inputs"):
        for value in (None, [], "x", {"x": 3}):
            if type(value) is not type(good[name]) or name in ("key", "stage", "digest", "files", "input_keys"):
                yield f"{name}: {value}", json.dumps(reseal({**good, name: value})).encode()
    entry = next(iter(good["files"].values()))
    for name in ("../../../canary", "/etc/passwd", "a/../../b", "", ".", "a//b", "a\\b", "a\nb"):
        yield f"file {name!r}", json.dumps(reseal({**good, "files": {name: entry}})).encode()
    for value in (None, 3, {}, {"size": "1"}, {**entry, "sha256": "x"}, {**entry, "size": None}, {**entry, "kind": 1}):
        yield f"entry {value}", json.dumps(reseal({**good, "files": {"a": value}})).encode()


def test_strange_manifests_are_as_good_as_missing(project: Project, workspace: Workspace) -> None:
    folder = project.artifact("pack").relative_to(project.folder)
    path = folder / "manifest.json"
    good = json.loads(path.read_text())
    cases = list(strange_manifests(good))
    assert len(cases) > 60
    path.chmod(0o644)
    for name, content in cases:
        path.write_bytes(content)
        assert workspace.find("pack", folder.name)[0] is None, name
        assert folder.name not in [manifest["key"] for manifest in workspace.manifests("pack")], name
        assert actions(project)["pack"] == "run"
        format_status(workspace, read_run_settings)
        maintenance.find_unused(workspace)
    assert len(verify(workspace)) == 1


def test_a_manifest_of_another_artifact_is_none(project: Project, workspace: Workspace) -> None:
    pack, encode = project.artifact("pack"), project.artifact("encode")
    shutil.copyfile(encode / "manifest.json", pack / "copy")
    os.replace(pack / "copy", pack / "manifest.json")
    assert workspace.find("pack", pack.name)[0] is None
    (pack / "manifest.json").unlink()
    (pack / "manifest.json").mkdir()
    assert workspace.find("pack", pack.name)[0] is None


def test_a_run_builds_again_what_lost_its_manifest(project: Project) -> None:
    before = project.digests()
    for number, stage in enumerate(STAGES):
        path = project.artifact(stage) / "manifest.json"
        content = damaged(path.read_bytes(), DAMAGE[number % 4], number)
        path.unlink()
        if content is not None:
            path.write_bytes(content)
    assert set(project.run().values()) == {"built"}
    assert project.digests() == before


def test_a_stage_that_fails_for_a_damaged_artifact_names_it(project: Project, workspace: Workspace) -> None:
    config = load_config(Path("tiny.yaml"))
    cases = [("ingest", "shard-000000.parquet", "normalize"), ("tokenizer", "tokenizer.json", "model")]
    for read, name, reading in cases:
        shutil.rmtree(workspace.root / "artifacts" / reading)
        path = workspace.artifact(read, project.artifact(read).name) / name
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(bytes([255]) + content[1:-1] + bytes([255]))
        problem = rf"{reading}: the artifact file {path} does not match its digest; `descent verify` sets it aside"
        with pytest.raises(StorageError, match=problem):
            run(config, select(only=reading))
        assert project.state()["exit_code"] == 74
        assert len(verify(workspace)) == 1
        run(config, select(last=reading))
        assert project.state()["stages"][reading]["outcome"] == "built"


def test_a_stage_that_fails_over_whole_artifacts_fails_as_it_is(
    project: Project, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(workspace.root / "artifacts/normalize")
    monkeypatch.setattr("pipeline.corpus.shards.map_shards", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(load_config(Path("tiny.yaml")), select(only="normalize"))


RECORDS = ("", "[]", "null", "{}", "{", '"x"', "[" * 100_000, "9" * 5000, "\x00", b"\xff")


def test_an_unreadable_run_is_told_and_nothing_is_swept(project: Project, workspace: Workspace) -> None:
    path = workspace.run("tiny") / "run.json"
    good = json.loads(path.read_text())
    key = {"key": "../../../canary", "outcome": "built", "seconds": 1}
    texts = [
        {**good, name: value} for name in ("stages", "name", "outcome", "started") for value in (None, [1], {"x": 1})
    ]
    texts += [{**good, "stages": {"pack": value}} for value in (None, 3, {}, {"key": 3}, key)]
    texts += [{**good, "earlier": {"../pack": good["stages"]["pack"]}}, {**good, "earlier": [1]}]
    altered = path.read_text().replace(good["stages"]["pack"]["key"], "0" * 16)
    for text in [*RECORDS, altered, *(json.dumps(reseal(text)) for text in texts)]:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        format_status(workspace, read_run_settings)
        assert set(actions(project).values()) == {"reuse"}
        with pytest.raises(StorageError, match=r"run\.json is missing or cannot be read, so what it uses is not known"):
            maintenance.find_unused(workspace)
        assert len(verify(workspace)) == 1
    assert set(project.run().values()) == {"reused"}
    assert verify(workspace) == []


def test_a_poisoned_cache_of_digests_does_no_harm(project: Project, workspace: Workspace) -> None:
    before = {step["stage"]: step["key"] for step in project.plan().values()}
    path = workspace.root / "digests.json"
    sources = [str(source.absolute()) for source in Path("texts").iterdir()]
    stamps: list[Any] = [None, 3, "x", {}, [], [1], [1, 2, 3, 4, 5]]
    for source in Path("texts").iterdir():
        status = source.stat()
        stamps.append([status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, "../../x"])
    texts = [json.dumps(dict.fromkeys(sources, stamp)) for stamp in stamps]
    for text in [*RECORDS, *texts]:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        config = load_config(Path("tiny.yaml"))
        steps = plan(config, select())
        assert {step.stage.name: step.key for step in steps} == before
    path.unlink(missing_ok=True)
    path.mkdir()
    assert set(actions(project).values()) == {"reuse"}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_in_any_file_of_a_checkpoint_is_found(project: Project, workspace: Workspace, kind: str) -> None:
    (work,) = Path("workspace/checkpoints").iterdir()
    older, newer = sorted(work.glob("step-*"))
    for number, path in enumerate(sorted(newer.iterdir())):
        content = damaged(path.read_bytes(), kind, number)
        backup = shutil.copytree(newer, "backup")
        path.unlink()
        if content is not None:
            path.write_bytes(content)
        for tell in (verify, lambda _: warnings_of_newest_valid(work, older)):
            damaged_copy = shutil.copytree(newer, "damaged")
            found = tell(workspace)
            assert len(found) == 1, path
            assert "is broken" in found[0]
            assert not newer.exists()
            os.rename(damaged_copy, newer)
        shutil.rmtree(newer)
        os.rename(backup, newer)


def warnings_of_newest_valid(work: Path, expected: Path) -> list[str]:
    warnings: list[str] = []
    assert newest_valid(work, warnings.append) == expected
    return warnings


def test_digests_of_a_checkpoint_that_name_too_little_or_too_much_are_no_pass(project: Project) -> None:
    (work,) = Path("workspace/checkpoints").iterdir()
    checkpoint = max(work.glob("step-*"))
    digests = json.loads((checkpoint / "digests.json").read_text())
    for text in (
        {},
        [],
        None,
        {**digests, "../../../canary": "x"},
        dict(list(digests.items())[1:]),
        dict.fromkeys(digests),
    ):
        shutil.copytree(checkpoint, "copy")
        (checkpoint / "digests.json").write_text(json.dumps(text))
        assert newest_valid(work, lambda line: None) != checkpoint, text
        shutil.rmtree(checkpoint, ignore_errors=True)
        os.rename("copy", checkpoint)


def test_what_is_being_built_is_left_alone(project: Project, workspace: Workspace) -> None:
    folder = project.artifact("pack").relative_to(project.folder)
    (folder / "train" / "pack.json").unlink()
    with workspace.lock("pack", folder.name, lambda holder: None):
        assert verify(workspace) == []
        assert folder.exists()
        shutil.rmtree(workspace.run("tiny"))
        swept = {item.folder for item in maintenance.find_unused(workspace)}
        assert folder not in swept
    assert len(verify(workspace)) == 1
    assert not folder.exists()


def test_an_artifact_that_is_replaced_while_it_is_read_is_not_set_aside(
    project: Project, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A forced rebuild puts a whole artifact in the place of the one that verify has begun to read."""
    folder = project.artifact("pack").relative_to(project.folder)
    whole = Path(shutil.copytree(folder, "whole"))
    (folder / "train" / "pack.json").unlink()
    problem = maintenance.find_damage

    def replaced_after(path: Path) -> str:
        found = problem(path)
        if path == folder and whole.exists():
            shutil.rmtree(folder)
            os.rename(whole, folder)
        return found

    monkeypatch.setattr(maintenance, "find_damage", replaced_after)
    assert verify(workspace) == []
    assert folder.exists()


def test_what_came_since_a_run_in_progress_began_is_not_swept(project: Project, workspace: Workspace) -> None:
    project.write_state(stages={"ingest": project.state()["stages"]["ingest"]}, placed={})
    folder = next(Path("workspace/artifacts/pack").iterdir())
    assert folder in {item.folder for item in maintenance.find_unused(workspace)}
    with workspace.lock("run", "tiny", lambda holder: None):
        project.write_state(started=folder.lstat().st_ctime - 1)
        assert folder not in {item.folder for item in maintenance.find_unused(workspace)}
