"""Whole files and folders or none."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from pipeline import atomic


def test_write_bytes_leaves_the_old_file_when_writing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state.json"
    atomic.write_bytes(path, b"old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
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
