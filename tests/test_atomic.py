"""Whole files and folders or none."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from pipeline import atomic
from pipeline.errors import StorageError


def test_write_bytes_leaves_the_old_file_when_writing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state.json"
    atomic.write_bytes(path, b"old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        StorageError, match=r"state\.json: the disk is full: 14 bytes are needed, [\d,]+ bytes are free"
    ):
        atomic.write_bytes(path, b"new and longer")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["state.json"]


def test_replacing_folder_appears_only_when_whole(tmp_path: Path) -> None:
    final = tmp_path / "a" / "folder"

    def fail_half_way() -> None:
        with atomic.replacing_folder(final) as folder:
            (folder / "part").write_text("half")
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        fail_half_way()
    assert not final.exists()
    assert os.listdir(final.parent) == []
    with atomic.replacing_folder(final) as folder:
        (folder / "part").write_text("whole")
        assert not final.exists()
    assert (final / "part").read_text() == "whole"
    assert os.listdir(final.parent) == ["folder"]


def test_digest_json_ignores_key_order_and_nothing_else() -> None:
    assert atomic.digest_json({"a": 1, "b": [1, 2]}) == atomic.digest_json({"b": [1, 2], "a": 1})
    assert atomic.digest_json([1, 2]) != atomic.digest_json([2, 1])
    assert atomic.digest_json(1) != atomic.digest_json("1")
    with pytest.raises(ValueError, match="not JSON compliant"):
        atomic.digest_json(float("nan"))


def test_a_full_disk_says_how_much_had_been_written(tmp_path: Path) -> None:
    def write_too_much() -> None:
        with atomic.replacing_folder(tmp_path / "folder") as folder:
            (folder / "part").write_bytes(b"x" * 1234)
            raise RuntimeError("Error while serializing: No space left on device (os error 28)")  # as Rust says it

    with pytest.raises(StorageError, match=r"folder: the disk is full: more than the 1,234 bytes written so far are"):
        write_too_much()
    assert os.listdir(tmp_path) == []


def test_links_that_somebody_put_there_are_not_followed(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    canary.write_text("alive")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / f".tmp-{os.getpid()}-state.json").symlink_to(canary)
    (folder / "state.json").symlink_to(canary)
    atomic.write_bytes(folder / "state.json", b"new")
    assert not (folder / "state.json").is_symlink()
    (folder / "link").symlink_to(tmp_path / "outside")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "canary").write_text("alive")
    atomic.remove(folder / "link")
    atomic.remove(folder)
    assert (tmp_path / "outside" / "canary").read_text() == canary.read_text() == "alive"


@contextmanager
def disturbed(disturb: Callable[[], object]) -> Iterator[None]:
    """Another thread does something again and again while the block runs."""
    over = threading.Event()

    def work() -> None:
        while not over.is_set():
            with suppress(OSError):
                disturb()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize("look", [atomic.list_files, atomic.list_links])
def test_what_is_removed_while_a_folder_is_listed_is_left_out(
    tmp_path: Path, look: Callable[[Path], list[str]]
) -> None:
    """As checkpoints are while another run waits for the training."""
    (tmp_path / "stays").touch()
    (tmp_path / "link").symlink_to("stays")

    def come_and_go() -> None:
        for number in range(20):
            (tmp_path / f"folder/{number}/below").mkdir(parents=True)
        atomic.remove(tmp_path / "folder")

    with disturbed(come_and_go):
        for _ in range(600):
            assert "link" in look(tmp_path)


def test_a_leftover_is_removed_while_children_of_the_killed_still_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, rmdir = tmp_path / ".tmp-1", os.rmdir

    def write_and_rmdir(*given: Any, **options: Any) -> None:
        with suppress(FileNotFoundError):
            (folder / "late").touch()
        rmdir(*given, **options)

    monkeypatch.setattr(os, "rmdir", write_and_rmdir)
    (folder / "below").mkdir(parents=True)
    atomic.discard(folder)
    assert list(tmp_path.iterdir()) == []
