"""Whether an artifact still holds what was written: each file is compared with its manifest when it is first read. A
process keeps the digests of files that it wrote or read, and reads none twice for them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

from pipeline import atomic
from pipeline.errors import DamageError
from pipeline.machine import num_cores

MANIFEST = "manifest.json"
MAX_DEPTH = 3
"""Folders of an artifact above a file that finds its own manifest."""

_known: dict[tuple[int, ...], str] = {}


def digest_of(path: Path) -> str:
    """SHA-256 of a file's bytes. A process reads them once, unless the file is written to."""
    stamp = _stamp(path)
    if stamp not in _known:
        _known[stamp] = atomic.digest_file(path)
    return _known[stamp]


def _stamp(path: Path) -> tuple[int, ...]:
    status = path.stat()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def link_file(source: Path, target: Path) -> None:
    """Let a file of an artifact stand in another place as well, without its bytes a second time; where the file system
    cannot, copy it. Raises DamageError when it is not what its manifest says."""
    check_file(source)
    digest = digest_of(source)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
    else:
        _known[_stamp(target)] = digest  # A link changes the time by which a process knows the file.


def check_files(folder: Path, digests: Iterable[tuple[str, str]]) -> None:
    """Compare files below a folder, given by name, with their digests, on all cores. Raises DamageError."""
    with ThreadPoolExecutor(num_cores()) as pool:
        for _ in pool.map(lambda file: _check(folder / file[0], file[1]), digests):
            pass


def check_file(path: Path) -> None:
    """Compare a file with the manifest of its artifact. A file of no artifact is taken as it is. Raises DamageError."""
    for folder in islice(path.parents, MAX_DEPTH):
        manifest = folder / MANIFEST
        if manifest.is_file():
            status = manifest.stat()
            entry = _files_of(manifest, status.st_ino, status.st_ctime_ns).get(path.relative_to(folder).as_posix())
            if entry is not None:
                _check(path, entry["sha256"])
            return


def damaged(path: Path, what: str) -> DamageError:
    """The error for a file of an artifact that is not what was written."""
    return DamageError(
        f"the artifact file {path} {what}; `descent verify` sets it aside, then run again to build it anew"
    )


def _check(path: Path, digest: str) -> None:
    try:
        found = digest_of(path)
    except OSError as error:
        raise damaged(path, f"cannot be read ({os.strerror(error.errno or 0)})") from None
    if found != digest:
        raise damaged(path, "does not match its digest")


@lru_cache(maxsize=64)
def _files_of(manifest: Path, *stamp: int) -> dict[str, Any]:
    files = (atomic.read_sealed(manifest) or {}).get("files")
    return files if isinstance(files, dict) else {}
