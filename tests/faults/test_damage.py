"""One flipped bit or one byte less anywhere: an error that names it, or the same result. Never another."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest
from harness import STAGES, Project, select, workspace_in

from pipeline.atomic import list_files, sealed
from pipeline.config.loading import load_config
from pipeline.engine import maintenance
from pipeline.engine.manifests import CHECKED, find_damage
from pipeline.engine.runner import run
from pipeline.engine.status import format_status
from pipeline.errors import DamageError, StorageError
from pipeline.integrity import check_file
from pipeline.progress import Progress

random = Random(47)


def flip(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 1 << random.randrange(8)]) + content[place + 1 :]


WAYS: dict[str, Callable[[bytes], bytes]] = {
    "middle": lambda content: flip(content, len(content) // 2),
    "begin": lambda content: flip(content, min(len(content) - 1, random.randrange(64))),
    "end": lambda content: flip(content, max(0, len(content) - 1 - random.randrange(64))),
    "anywhere": lambda content: flip(content, random.randrange(len(content))),
    "one byte less": lambda content: content[:-1],
}


def overwrite(path: Path, content: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(content)


@pytest.fixture
def project(finished: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.chdir(finished.folder)
    return finished


def verify() -> list[str]:
    return maintenance.verify(workspace_in(Path("workspace")), Progress("verify", stream=open(os.devnull, "w")))


def again(**options: str) -> None:
    run(load_config(Path("tiny.yaml")), select(**options))


def artifacts() -> list[Path]:
    return [path for path in Path("workspace/artifacts").glob("*/*") if len(path.name) == 16]


READ_BY = [
    ("ingest", "shard-000000.parquet", "normalize"),
    ("normalize", "shard-000000.parquet", "curate"),
    ("curate", "train/shard-000000.parquet", "augment"),
    ("curate", "train/shard-000000.parquet", "tokenizer"),
    ("augment", "train/shard-000000.parquet", "encode"),
    ("tokenizer", "tokenizer.json", "encode"),
    ("tokenizer", "tokenizer_config.json", "model"),
    ("encode", "encode.json", "pack"),
    ("encode", "train/stream.ds", "train"),
    ("encode", "validation/stream.ds.index", "train"),
    ("pack", "train/pack.json", "train"),
    ("model", "model/model.safetensors", "train"),
    ("encode", "test/stream.ds", "evaluate"),
    ("train", "model/model.safetensors", "evaluate"),
    ("train", "model/config.json", "report"),
    ("train", "metrics.jsonl", "report"),
]
"""A file, and a stage that reads it."""


def test_every_stage_refuses_a_flipped_bit_in_what_it_reads(project: Project) -> None:
    """At the end as in the middle: Parquet's checksums of pages cover no footer."""
    folders = {stage: project.artifact(stage).relative_to(project.folder) for stage in STAGES}
    shutil.rmtree("workspace/checkpoints")  # a training at its last step opens no stream of tokens
    for number, (stage, name, reading) in enumerate(READ_BY):
        path, kept = folders[stage] / name, folders[reading]
        whole = path.read_bytes()
        os.rename(kept, kept.with_name("kept"))
        overwrite(path, WAYS[("middle", "end")[number % 2]](whole))
        with pytest.raises(DamageError, match=f"^{reading}: the artifact file {path} does not match its") as error:
            again(only=reading)
        assert str(error.value).endswith("; `descent verify` sets it aside, then run again to build it anew")
        assert project.state()["exit_code"] == 74
        assert [entry.name for entry in kept.parent.iterdir()] == ["kept"]
        overwrite(path, whole)
        os.rename(kept.with_name("kept"), kept)


def test_what_a_process_has_read_or_written_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pipeline.integrity
    from pipeline.atomic import digest_file, write_json

    read: list[str] = []
    monkeypatch.setattr(
        pipeline.integrity.atomic, "digest_file", lambda path: read.append(path.name) or digest_file(path)
    )
    (tmp_path / "part").mkdir()
    path = tmp_path / "part/a"
    path.write_bytes(b"abc")
    write_json(tmp_path / "manifest.json", sealed({"files": {"part/a": {"sha256": digest_file(path)}}}))
    for _ in range(3):
        check_file(path)
    assert read == ["a"]
    path.write_bytes(b"abd")
    with pytest.raises(DamageError, match=r"part/a does not match its digest"):
        check_file(path)
    path.unlink()
    with pytest.raises(DamageError, match=r"part/a cannot be read \(No such file or directory\)"):
        check_file(path)


def test_an_internal_error_is_blamed_on_damage_in_any_ancestor(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = project.artifact("ingest").relative_to(project.folder) / "shard-000000.parquet"
    overwrite(path, WAYS["middle"](path.read_bytes()))
    shutil.rmtree(project.artifact("curate"))
    monkeypatch.setattr("pipeline.corpus.scanning.number_shards", lambda *_: 1 / 0)
    with pytest.raises(StorageError, match=rf"^curate: the artifact file {path} does not match its digest; `descent"):
        again(only="curate")


def forget_checks(folders: Iterator[Path] | list[Path]) -> None:
    """Make artifacts and trainings those of an earlier version, which did not compare what it read."""
    for folder in folders:
        path = folder / ("manifest.json" if (folder / "manifest.json").exists() else "identity.json")
        kept = {name: value for name, value in json.loads(path.read_text()).items() if name not in (CHECKED, "seal")}
        overwrite(path, json.dumps(sealed(kept)).encode())


def test_verify_sets_aside_what_an_earlier_version_made_from_damage(project: Project) -> None:
    before = project.digests()
    names = {stage: project.artifact(stage).relative_to(project.folder) for stage in STAGES}
    forget_checks([*artifacts(), *Path("workspace/checkpoints").iterdir()])
    path = names["tokenizer"] / "tokenizer.json"
    overwrite(path, WAYS["middle"](path.read_bytes()))
    found = verify()
    made_from_it = ("encode", "pack", "model", "train", "evaluate", "report")
    assert {folder.parent.name for folder in artifacts()} == {*STAGES} - {"tokenizer", *made_from_it}
    for stage in made_from_it:
        (line,) = [line for line in found if line.startswith(f"the artifact {names[stage]} may have been made from")]
        assert line.endswith("run tiny again, which showed it")
    assert len([line for line in found if line.startswith("the checkpoint ")]) > 0
    assert not list(Path("workspace/checkpoints").glob("*/step-*"))
    assert verify() == []
    again()
    assert project.digests() == before


def test_verify_keeps_what_was_compared_with_its_digests(project: Project) -> None:
    path = project.artifact("ingest").relative_to(project.folder) / "shard-000000.parquet"
    overwrite(path, WAYS["middle"](path.read_bytes()))
    assert len(verify()) == 1
    assert {folder.parent.name for folder in artifacts()} == {*STAGES} - {"ingest"}
    assert list(Path("workspace/checkpoints").glob("*/step-*"))
    again()
    assert [stage for stage, entry in project.state()["stages"].items() if entry["outcome"] == "built"] == ["ingest"]


@pytest.fixture
def linked(project: Project) -> list[Path]:
    """The names of a file that two artifacts hold."""
    names = [project.artifact(stage).relative_to(project.folder) for stage in ("curate", "augment")]
    paths = [folder / "train/shard-000000.parquet" for folder in names]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    paths[1].unlink()  # Copies of the run have files of their own.
    os.link(*paths)
    return paths


def test_damage_in_a_file_that_two_artifacts_hold_is_found_in_both(project: Project, linked: list[Path]) -> None:
    before = project.digests()
    overwrite(linked[0], WAYS["middle"](linked[0].read_bytes()))
    found = [line for line in verify() if "does not match its digest: moved to" in line]
    assert sorted(line.split()[3] for line in found) == sorted(map(str, linked))
    assert {folder.parent.name for folder in artifacts()} == {*STAGES} - {"curate", "augment"}
    assert verify() == []
    again()
    assert project.digests() == before


def test_a_file_that_two_artifacts_hold_counts_once(linked: list[Path]) -> None:
    workspace, folders = workspace_in(Path("workspace")), [path.parents[1] for path in linked]
    (folders[0] / "large").write_bytes(bytes(3_000_000))
    os.link(folders[0] / "large", folders[1] / "large")
    for folder in folders:
        manifest = json.loads((folder / "manifest.json").read_text())
        del manifest["seal"]
        manifest["files"]["large"] = {"size": 3_000_000, "sha256": 64 * "0", "kind": "record"}
        overwrite(folder / "manifest.json", json.dumps(sealed(manifest)).encode())
    for lists_all in (False, True):
        lines = format_status(workspace, lambda path: {}, lists_all).splitlines()
        told = [next(line for line in lines if line.startswith(folder.parent.name)) for folder in folders]
        assert [bool(re.search(r" 3\.\d\d MB", line)) for line in told] == [True, False]
    shutil.rmtree("workspace/runs")
    freed = {item.folder: item.num_bytes for item in maintenance.find_unused(workspace)}
    own = [sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) for folder in folders]
    assert sum(freed[folder] for folder in folders) == sum(own) - 3_000_000 - linked[0].stat().st_size


def test_what_was_made_from_something_doubtful_is_doubtful_too(project: Project) -> None:
    curate = project.artifact("curate").relative_to(project.folder)
    forget_checks([curate])
    path = project.artifact("normalize").relative_to(project.folder) / "shard-000000.parquet"
    overwrite(path, WAYS["end"](path.read_bytes()))
    verify()
    assert {folder.parent.name for folder in artifacts()} == {"ingest"}
    assert not list(Path("workspace/checkpoints").glob("*/step-*"))


def test_a_training_that_an_earlier_version_began_is_given_up_with_its_model(project: Project) -> None:
    """In progress it has no manifest: it knows its inputs by digest."""
    shutil.rmtree(project.artifact("train"))
    path = project.artifact("model").relative_to(project.folder) / "model/model.safetensors"
    whole = path.read_bytes()
    for is_marked in (True, False):
        if not is_marked:
            forget_checks([*Path("workspace/checkpoints").iterdir()])
        overwrite(path, WAYS["middle"](whole))
        found = verify()
        assert len(list(Path("workspace/checkpoints").glob("*/step-*"))) == (2 if is_marked else 0), found
        (aside,) = path.parents[2].glob("aside-*")
        os.rename(aside, path.parents[1])
        overwrite(path, whole)


@pytest.mark.parametrize("way", ["middle", "one byte less", "gone"])
@pytest.mark.parametrize("has_checkpoint", [True, False])
def test_a_damaged_record_costs_no_training(project: Project, way: str, has_checkpoint: bool) -> None:
    """What is whole of a finished training stays; from its last checkpoint its records come back as well."""
    before, train, report = project.digests(), project.artifact("train"), project.artifact("report")
    path, weights = train / "metrics.jsonl", train / "model/model.safetensors"
    whole, inode = path.read_bytes(), weights.stat().st_ino
    if not has_checkpoint:
        shutil.rmtree("workspace/checkpoints")
    shutil.rmtree(report)
    if way == "gone":
        path.unlink()
    else:
        overwrite(path, WAYS[way](whole))
    (line,) = verify()
    assert "metrics.jsonl" in line
    assert line.endswith("these records") is not has_checkpoint
    assert verify() == []
    again()
    assert project.digests() == before
    outcomes = {stage: entry["outcome"] for stage, entry in project.state()["stages"].items()}
    built = {"train", "report"} if has_checkpoint else {"report"}
    assert {stage for stage in STAGES if outcomes[stage] == "built"} == built
    assert (weights.stat().st_ino == inode) is not has_checkpoint
    summary = json.loads((train / "manifest.json").read_text())["summary"]
    if has_checkpoint:
        assert summary["resumed_from_steps"] == [24]
        assert path.read_bytes() == whole
    else:
        assert summary["warnings"] == ["metrics.jsonl was damaged and is left out of reports"]
        assert summary["warnings"][0] in (report / "report.html").read_text()
    assert verify() == []


def test_no_result_depends_on_a_record(project: Project) -> None:
    """What digests of results do not cover decides nothing: one half of each record is overwritten here."""
    before, lost = project.digests(), 0
    for folder in artifacts():
        for name, entry in json.loads((folder / "manifest.json").read_text())["files"].items():
            if entry["kind"] == "record":
                content = (folder / name).read_bytes()
                overwrite(folder / name, content[: len(content) // 2].ljust(len(content), b"\n"))
                lost += 1
    assert lost > 2
    shutil.rmtree(project.artifact("evaluate"))
    again(only="evaluate")
    assert project.digests() == before


def test_a_training_with_a_damaged_result_is_set_aside_whole(project: Project) -> None:
    train = project.artifact("train")
    shutil.rmtree("workspace/checkpoints")
    for name in ("metrics.jsonl", "training.json"):
        overwrite(train / name, WAYS["middle"]((train / name).read_bytes()))
    (line,) = verify()
    assert not train.exists()
    assert line.endswith("; run tiny again, which showed it")


def experiment(project: Project, way: str, path: Path) -> str:
    """Damage a file, build again all that comes after its stage, and see what became of it."""
    before = project.digests()
    stage = path.parts[2] if path.parts[1] == "artifacts" else "pack"
    later = STAGES[STAGES.index(stage) + 1 :]
    for name in later:
        shutil.rmtree(Path("workspace/artifacts") / name, ignore_errors=True)
    if path.parts[1] == "artifacts":
        shutil.rmtree("workspace/checkpoints", ignore_errors=True)
    overwrite(path, WAYS[way](path.read_bytes()))
    try:
        again()
        outcome = "same result" if project.digests() == before else "another result"
    except DamageError:
        outcome = "refused"
    verify()
    for folder in artifacts():
        manifest = json.loads((folder / "manifest.json").read_text())
        assert find_damage(folder) == ""
        assert manifest["digest"] == before[folder.parent.name], folder
    return outcome


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("stage", [*STAGES, "checkpoint"])
def test_damage_in_any_file_never_becomes_a_result(
    finished: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str, way: str
) -> None:
    random.seed(f"{stage} {way}")
    checkpoint = max(finished.workspace.glob("checkpoints/*/step-*")).relative_to(finished.folder)
    folder = checkpoint if stage == "checkpoint" else finished.artifact(stage).relative_to(finished.folder)
    for number, name in enumerate(list_files(finished.folder / folder)):
        if (finished.folder / folder / name).stat().st_size == 0:
            continue
        copy = finished.copy(tmp_path / f"copy{number}")
        monkeypatch.chdir(copy.folder)
        assert experiment(copy, way, folder / name) in ("refused", "same result"), name
        shutil.rmtree(copy.folder)
