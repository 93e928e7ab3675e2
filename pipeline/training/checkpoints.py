"""Folders of checkpoints: whole or absent, verified before use, rotated. Knows nothing of tensors."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from pipeline.atomic import TEMPORARY_PREFIX, digest_file, list_files, replacing_folder, write_json

PREFIX = "step-"
DIGESTS = "digests.json"


def save_checkpoint(work: Path, step: int, write: Callable[[Path], None], keep: int) -> None:
    """Write `work/step-<step>` atomically with `write(folder)` and the digest of every file; keep the newest `keep`.

    A checkpoint of this step that exists already is left alone: equal steps hold equal states.
    """
    final = work / f"{PREFIX}{step:08d}"
    if not final.exists():
        with replacing_folder(final) as folder:
            write(folder)
            write_json(folder / DIGESTS, {name: digest_file(folder / name) for name in list_files(folder)})
    for old in list_checkpoints(work)[:-keep]:
        _remove(old)


def list_checkpoints(work: Path) -> list[Path]:
    """Complete checkpoints, oldest first. Their content is not verified."""
    found = [path for path in work.glob(f"{PREFIX}*") if path.name.removeprefix(PREFIX).isdigit() and path.is_dir()]
    return sorted(found, key=step_of)


def step_of(checkpoint: Path) -> int:
    """The number of updates after which a checkpoint was taken."""
    return int(checkpoint.name.removeprefix(PREFIX))


def newest_valid(work: Path, warn: Callable[[str], None]) -> Path | None:
    """The newest checkpoint whose files all match their digests, or None.

    Newer ones that do not match are renamed to `broken-step-<step>`, with one warning each. What an interrupted
    write or removal left behind is cleared: call this only while holding the training's lock.
    """
    for leftover in work.glob(f"{TEMPORARY_PREFIX}*"):
        shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
    for checkpoint in reversed(list_checkpoints(work)):
        problem = problem_of(checkpoint)
        if problem is None:
            return checkpoint
        aside = set_aside(checkpoint)
        warn(f"warning: {checkpoint.name} is broken ({problem}): set aside as {aside.name}, trying the one before")
    return None


def set_aside(checkpoint: Path) -> Path:
    """Rename a checkpoint so that it is never resumed from; returns where it went."""
    aside = checkpoint.with_name(f"broken-{checkpoint.name}")
    shutil.rmtree(aside, ignore_errors=True)
    os.rename(checkpoint, aside)
    return aside


def problem_of(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint's files by their digests; None when they are whole."""
    try:
        digests = json.loads((checkpoint / DIGESTS).read_bytes())
        if not isinstance(digests, dict):
            return f"{DIGESTS} is not a mapping"
        for name, digest in digests.items():
            if digest_file(checkpoint / name) != digest:
                return f"{name} does not match its digest"
    except (OSError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    return None


def _remove(checkpoint: Path) -> None:
    """Remove a checkpoint so that no half-removed one is ever taken for a whole one."""
    doomed = checkpoint.with_name(f"{TEMPORARY_PREFIX}{checkpoint.name}")
    os.rename(checkpoint, doomed)
    shutil.rmtree(doomed)
