"""Identity, lookup and commit of artifacts."""

from __future__ import annotations

import errno
import fcntl
import os
import time
import warnings
from pathlib import Path
from typing import Annotated, Any

import pytest
from harness import PATIENCE_SECONDS, workspace_in

from pipeline.atomic import digest_file, num_bytes
from pipeline.engine import artifacts
from pipeline.engine.artifacts import Workspace
from pipeline.engine.differences import describe_differences
from pipeline.engine.manifests import content_digest, seal
from pipeline.engine.stage import Stage, StageContext
from pipeline.errors import DamageError, MissingInputError
from pipeline.integrity import check_file
from pipeline.progress import Progress
from pipeline.section import Runtime, Section


class Inner(Section):
    depth: int = 1
    threads: Annotated[int, Runtime()] = 1


class Settings(Section):
    size: int = 1
    workers: Annotated[int, Runtime()] = 1
    inner: Inner = Inner()
    paths: tuple[Path, ...] = ()


STAGE = Stage(
    name="shape",
    version=1,
    run=lambda context: {},
    libraries=("filelock",),
    records=("log.txt", "events/*"),
    files=lambda section: {str(path): [path] for path in section.paths},
)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    (tmp_path / "workspace").mkdir()
    return workspace_in(tmp_path / "workspace")


def key(workspace: Workspace, section: Settings, seed: int = 0, stage: Stage = STAGE, **inputs: str) -> str:
    return workspace.identify(stage, section, seed, inputs).key


def build(workspace: Workspace, section: Settings, content: str = "result", **inputs: str) -> dict[str, Any]:
    identity = workspace.identify(STAGE, section, 0, inputs)
    with workspace.building(STAGE.name, identity.key) as folder:
        (folder / "result.txt").write_text(content)
        (folder / "log.txt").write_text(f"took {time.time()} s")
        (folder / "events").mkdir()
        (folder / "events" / "1").write_text(str(time.time()))
        return seal(folder, STAGE, identity, section, {}, {"documents": 1}, time.time())


def test_key_depends_on_everything_that_shapes_the_result(workspace: Workspace) -> None:
    base = key(workspace, Settings())
    other_version = Stage(name="shape", version=2, run=STAGE.run, libraries=STAGE.libraries)
    assert key(workspace, Settings()) == base
    assert key(workspace, Settings(size=2)) != base
    assert key(workspace, Settings(inner=Inner(depth=2))) != base
    assert key(workspace, Settings(), seed=1) != base
    assert key(workspace, Settings(), upstream="digest") != base
    assert key(workspace, Settings(), stage=other_version) != base


def test_key_ignores_runtime_fields_at_any_depth(workspace: Workspace) -> None:
    assert key(workspace, Settings(workers=8, inner=Inner(threads=8))) == key(workspace, Settings())


def test_source_files_count_by_content_not_by_time(workspace: Workspace, tmp_path: Path) -> None:
    source = tmp_path / "a.txt"
    source.write_text("one")
    section = Settings(paths=(source,))
    base = key(workspace, section)
    os.utime(source, (1e9, 1e9))
    assert key(workspace, section) == base
    source.write_text("two")
    assert key(workspace, section) != base
    assert key(workspace_in(workspace.root), section) != base


def test_a_file_changed_within_the_clock_grain_is_not_taken_for_its_old_self(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "a.txt"
    source.write_text("one")
    frozen, real = source.stat(), Path.stat
    # The clock of file systems stands still for some milliseconds: both contents have the same stamp.
    monkeypatch.setattr(Path, "stat", lambda self, **options: frozen if self == source else real(self, **options))
    base = key(workspace, Settings(paths=(source,)))
    source.write_text("two")
    assert key(workspace, Settings(paths=(source,))) != base


def test_missing_source_is_named(workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"gone\.txt"):
        key(workspace, Settings(paths=(tmp_path / "gone.txt",)))


def test_records_do_not_enter_the_digest(workspace: Workspace) -> None:
    first = build(workspace, Settings())
    second = build(workspace, Settings())
    assert first["files"]["log.txt"]["sha256"] != second["files"]["log.txt"]["sha256"]
    assert first["digest"] == second["digest"]
    assert build(workspace, Settings(), content="other")["digest"] != first["digest"]


def test_part_digest_sees_only_its_folder() -> None:
    files = {name: {"sha256": name, "kind": "result"} for name in ("train/a", "test/a", "training")}
    changed = {**files, "test/a": {"sha256": "x", "kind": "result"}}
    assert content_digest(files, "train") == content_digest(changed, "train")
    assert content_digest(files, "test") != content_digest(changed, "test")
    assert content_digest(files) != content_digest(changed)
    assert content_digest(files, "train") != content_digest(
        {"train/a": files["train/a"], "train/b": files["train/a"]}, "train"
    )


@pytest.mark.parametrize("damage", ["truncate", "empty", "delete", "grow"])
def test_damage_that_changes_a_size_is_found(workspace: Workspace, damage: str) -> None:
    manifest = build(workspace, Settings())
    assert workspace.find("shape", manifest["key"]) == (manifest, "")
    path = workspace.artifact("shape", manifest["key"]) / "result.txt"
    path.chmod(0o644)
    content = path.read_bytes()
    if damage == "delete":
        path.unlink()
    else:
        path.write_bytes({"truncate": content[:-1], "empty": b"", "grow": content + b"x"}[damage])
    found, problem = workspace.find("shape", manifest["key"])
    assert found is None
    assert "result.txt" in problem


def test_a_file_that_does_not_belong_there_is_found(workspace: Workspace) -> None:
    manifest = build(workspace, Settings())
    (workspace.artifact("shape", manifest["key"]) / "shard-9.txt").write_text("x")
    found, problem = workspace.find("shape", manifest["key"])
    assert found is None
    assert "shard-9.txt does not belong there" in problem


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 1}', '{"format": 2}'])
def test_an_unreadable_manifest_makes_the_artifact_broken(workspace: Workspace, content: str) -> None:
    manifest = build(workspace, Settings())
    path = workspace.artifact("shape", manifest["key"]) / "manifest.json"
    path.chmod(0o644)
    path.write_text(content)
    found, problem = workspace.find("shape", manifest["key"])
    assert found is None
    assert "no readable manifest" in problem
    assert workspace.manifests("shape") == []
    again = build(workspace, Settings())
    assert workspace.find("shape", manifest["key"]) == (again, "")


def test_a_rebuilt_artifact_sets_the_earlier_one_aside_only_when_it_is_whole(workspace: Workspace) -> None:
    manifest = build(workspace, Settings(), content="first")
    folder = workspace.artifact("shape", manifest["key"])

    def fail() -> None:
        with workspace.building("shape", manifest["key"]):
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        fail()
    assert (folder / "result.txt").read_text() == "first"
    build(workspace, Settings(), content="second")
    assert (folder / "result.txt").read_text() == "second"
    assert (folder.with_name(f"aside-{manifest['key']}-1") / "result.txt").read_text() == "first"


def test_many_changed_sources_are_counted_not_listed(workspace: Workspace, tmp_path: Path) -> None:
    def section(name: str) -> Settings:
        paths = [tmp_path / f"{name}{n}.txt" for n in range(9)]
        for path in paths:
            path.write_text(path.name)
        return Settings(paths=tuple(paths[:9]))

    before, after = section("a"), section("b")
    reasons = describe_differences(build(workspace, before), workspace.identify(STAGE, after, 0, {}).payload)
    assert reasons[-2] == f"9 sources removed, the first {tmp_path / 'a0.txt'}"
    assert reasons[-1] == f"9 sources added, the first {tmp_path / 'b0.txt'}"


def test_leftovers_of_a_killed_builder_are_cleared(workspace: Workspace) -> None:
    manifest = build(workspace, Settings())
    folder = workspace.artifact("shape", manifest["key"])
    leftover = folder.with_name(f".tmp-{manifest['key']}-1")
    os.rename(folder, leftover)
    with workspace.lock("shape", manifest["key"], lambda holder: None):
        build(workspace, Settings())
    assert not leftover.exists()
    assert folder.exists()


def test_differences_name_key_and_both_values(workspace: Workspace, tmp_path: Path) -> None:
    source = tmp_path / "a.txt"
    source.write_text("one")
    earlier = build(workspace, Settings(paths=(source,)), upstream="digest")
    larger = workspace.identify(STAGE, Settings(size=9, paths=(source,)), 0, {"upstream": "digest"})
    assert describe_differences(earlier, larger.payload) == ["shape.size 1 -> 9"]
    source.write_text("two")
    changed = workspace.identify(STAGE, Settings(paths=(source,)), 3, {"upstream": "other"})
    told = ["run.seed 0 -> 3", f"source {source} changed", "input upstream changed"]
    assert describe_differences(earlier, changed.payload) == told


def test_a_seed_counts_as_a_difference_where_both_draw_or_there_is_no_other(workspace: Workspace) -> None:
    earlier = build(workspace, Settings())
    drawing_nothing = workspace.identify(STAGE, Settings(), None, {}).payload
    assert describe_differences(earlier, drawing_nothing) == ["run.seed 0 -> (nothing is drawn)"]
    assert describe_differences(earlier | {"seed": None}, drawing_nothing) == []
    larger = workspace.identify(STAGE, Settings(size=9), None, {}).payload
    assert describe_differences(earlier, larger) == ["shape.size 1 -> 9"]


def test_lock_makes_others_wait_and_names_the_holder(workspace: Workspace) -> None:
    import threading

    waited: list[str] = []
    entered = threading.Event()

    def second() -> None:
        with workspace.lock("shape", "k", waited.append):
            entered.set()

    with workspace.lock("shape", "k", waited.append):
        thread = threading.Thread(target=second)
        thread.start()
        assert not entered.wait(0.3)
    thread.join(PATIENCE_SECONDS)
    assert entered.is_set()
    assert waited == [f"process {os.getpid()} on {artifacts.socket.gethostname()}"]


@pytest.mark.parametrize("has_flock", [True, False])
def test_a_lock_is_seen_as_long_as_it_is_held(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, has_flock: bool
) -> None:
    if not has_flock:  # as on some file systems of clusters, where FileLock's file itself is the lock

        def refuse(file: object, operation: int) -> None:
            raise OSError(errno.ENOSYS, "Function not implemented")

        monkeypatch.setattr(fcntl, "flock", refuse)
    assert not workspace.is_locked("train", "0" * 16)
    with warnings.catch_warnings(action="ignore"), workspace.lock("train", "0" * 16, print):
        assert workspace.is_locked("train", "0" * 16)
        with workspace.unless_locked("train", "0" * 16) as held:
            assert not held
    assert not workspace.is_locked("train", "0" * 16)


def test_a_setting_at_its_default_is_in_no_key_wherever_it_stands(workspace: Workspace) -> None:
    class Deeper(Inner):
        later: str | None = None

    class Larger(Settings):
        inner: Deeper = Deeper()
        also: tuple[int, ...] = (1, 2)

    plain = key(workspace, Settings(size=3, inner=Inner(depth=2)))
    assert key(workspace, Larger(size=3, inner=Deeper(depth=2))) == plain
    assert key(workspace, Larger(size=3, inner=Deeper(depth=2), also=(1, 2))) == plain  # given, and as the default is
    assert key(workspace, Larger(size=3, inner=Deeper(depth=2, later="x"))) != plain
    assert key(workspace, Larger(size=3, inner=Deeper(depth=2), also=(1,))) != plain
    earlier = build(workspace, Settings(size=3, inner=Inner(depth=2)))
    identity = workspace.identify(STAGE, Larger(inner=Deeper(depth=2, later="x")), 0, {})
    told = ['shape.inner.later (not given) -> "x"', "shape.size 3 -> 1"]
    assert describe_differences(identity.with_defaults(earlier), identity.payload) == told


@pytest.mark.parametrize("can_link", [True, False])
def test_a_file_of_another_artifact_is_taken_over_without_being_read_again(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, can_link: bool
) -> None:
    manifest = build(workspace, Settings())
    source = workspace.artifact("shape", manifest["key"]) / "result.txt"
    if not can_link:
        monkeypatch.setattr(os, "link", lambda *paths: (_ for _ in ()).throw(OSError(errno.EXDEV, "other device")))
    read: list[Path] = []
    monkeypatch.setattr("pipeline.atomic.digest_file", lambda path, real=digest_file: read.append(path) or real(path))
    identity = workspace.identify(STAGE, Settings(size=2), 0, {})
    with workspace.building(STAGE.name, identity.key) as folder:
        context(folder).link(source, "train/result.txt")
        taken = seal(folder, STAGE, identity, Settings(size=2), {}, {}, time.time())
    linked = workspace.artifact("shape", identity.key) / "train" / "result.txt"
    check_file(linked)
    check_file(source)
    assert os.path.samefile(source, linked) == can_link
    assert len(read) == (0 if can_link else 1)
    assert taken["files"]["train/result.txt"] == manifest["files"]["result.txt"]
    assert num_bytes(linked.parent) == (0 if can_link else linked.stat().st_size)


def test_a_damaged_file_is_not_taken_over(workspace: Workspace, tmp_path: Path) -> None:
    manifest = build(workspace, Settings())
    source = workspace.artifact("shape", manifest["key"]) / "result.txt"
    source.chmod(0o644)
    source.write_text("resulT")
    with pytest.raises(DamageError, match="does not match its digest"):
        context(tmp_path).link(source, "result.txt")


def context(output: Path) -> StageContext[Settings]:
    return StageContext(Settings(), 0, {}, output, None, 1, Progress("test"))
