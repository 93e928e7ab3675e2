"""A disk that is full in any stage: one line with path, needed and free bytes; nothing lost; the next run completes."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import PATIENCE_SECONDS, STAGES, Project, Result

PAGE = 4096
"""The grain in which a tmpfs gives out space."""

FAST = ("tokenizer", "train")

FILLING = """if True:
    import os, sys
    from pipeline.main import main
    from pipeline.stages import STAGES

    stage_name, num_pages, *arguments = sys.argv[1:]
    (stage,) = [stage for stage in STAGES if stage.name == stage_name]
    original = stage.run

    def run(context):
        with open("workspace/filler", "wb", buffering=0) as filler:
            try:
                while True:
                    filler.write(bytes(4096))
            except OSError:
                filler.truncate(max(0, os.path.getsize("workspace/filler") - 4096 * int(num_pages)))
        return original(context)

    object.__setattr__(stage, "run", run)
    main(arguments)
"""
"""Runs a command in which a stage finds the disk full but for some pages when it begins."""

MESSAGE = re.compile(
    r"descent: (\S+): the disk is full: (?:more than the ([\d,]+) bytes written so far are|([\d,]+) bytes are|"
    r"more space is) needed, ([\d,]+) bytes are free; free some space and run again to go on"
)


@pytest.fixture
def small_disk(finished_once: Project, tmp_path: Path) -> Iterator[Project]:
    """A copy of the finished run whose workspace is a disk of its own."""
    project = Project(tmp_path / "copy")
    shutil.copytree(finished_once.folder, project.folder, symlinks=True, ignore=shutil.ignore_patterns("workspace"))
    project.workspace.mkdir()
    size = sum(path.lstat().st_size for path in finished_once.workspace.rglob("*"))
    options = f"size={4 * size + 2**20}"
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(project.workspace)], check=False)
    if mounted.returncode:
        pytest.skip("mounting is not allowed here")
    try:
        shutil.copytree(finished_once.workspace, project.workspace, symlinks=True, dirs_exist_ok=True)
        yield project
    finally:
        subprocess.run(["umount", "--lazy", str(project.workspace)], check=True)


def run_filling(project: Project, stage: str, num_pages: int) -> Result:
    command = [sys.executable, "-c", FILLING, stage, str(num_pages), "run", "tiny.yaml"]
    done = subprocess.run(
        command, cwd=project.folder, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
    )
    return Result(done.returncode, done.stdout, done.stderr)


def contents(project: Project, stages: tuple[str, ...]) -> dict[str, bytes]:
    folders = [project.workspace / "artifacts" / stage for stage in stages]
    return {str(path): path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file()}


def assert_fails_and_completes(project: Project, stage: str, num_pages: int) -> Path:
    """Run into the full disk at a stage, then with space again; returns the path that the error named."""
    undisturbed = project.digests()
    project.forget_from(stage)
    before = contents(project, STAGES[: STAGES.index(stage)])
    failed = run_filling(project, stage, num_pages)
    assert failed.code == 74, failed.err
    assert "Traceback" not in failed.err
    said = MESSAGE.fullmatch(failed.err.splitlines()[-1])
    assert said, failed.err
    assert [line for line in failed.err.splitlines() if line.startswith("descent: ")] == [said.group()]
    assert contents(project, STAGES[: STAGES.index(stage)]) == before
    assert not list(project.workspace.glob("artifacts/*/.tmp-*"))
    assert not (project.workspace / "artifacts" / stage).exists() or not list(
        (project.workspace / "artifacts" / stage).iterdir()
    )
    (project.workspace / "filler").unlink()
    project.run()
    assert project.digests() == undisturbed
    return project.folder / said.group(1)


@pytest.mark.parametrize(
    "stage", [pytest.param(stage, marks=() if stage in FAST else pytest.mark.slow) for stage in STAGES]
)
def test_a_full_disk_loses_nothing_and_the_next_run_completes(small_disk: Project, stage: str) -> None:
    path = assert_fails_and_completes(small_disk, stage, num_pages=1)
    assert path.is_relative_to(small_disk.workspace)


@pytest.mark.slow
@pytest.mark.parametrize("num_pages", [0, 2, 3, 6, 20, 40])
def test_training_tells_whatever_cannot_be_written(small_disk: Project, num_pages: int) -> None:
    """Depending on what is left it is the records, TensorBoard's thread, a checkpoint or the model."""
    assert_fails_and_completes(small_disk, "train", num_pages)
