"""Whole files and folders or none: write under a temporary name, fsync, digest, rename."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pipeline.errors import StorageError, disk_full, is_disk_full

TEMPORARY_PREFIX = ".tmp-"
NO_HARD_LINKS = (errno.EXDEV, errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.EACCES)


def digest_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_json(value: Any) -> str:
    """SHA-256 of a JSON value written canonically (sorted keys, no spaces), in hexadecimal."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def fsync_path(path: Path) -> None:
    """Flush a file or folder to the disk; a folder's flush makes renames inside it durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file whole: readers see the old content or the new, never a part of it."""
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{os.getpid()}-{path.name}")
    full = False
    try:
        temporary.unlink(missing_ok=True)
        with temporary.open("xb") as file:  # never through a link that somebody put there
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        full = is_disk_full(error)
        if not full:
            raise
    finally:
        temporary.unlink(missing_ok=True)
    if full:
        raise disk_full(path, f"{len(data):,} bytes are")
    fsync_path(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file whole, indented, keys in the order given. Raises ValueError on NaN or infinity."""
    write_bytes(path, (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode())


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in a JSON file, or None when there is none. Raises StorageError when the file cannot be read."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, ValueError, RecursionError):
        return None
    except OSError as error:
        raise StorageError(f"{path}: cannot read: {error.strerror}") from None
    return value if isinstance(value, dict) else None


def sealed(value: dict[str, Any]) -> dict[str, Any]:
    """A JSON object with a digest of itself, by which `read_sealed` notices any change."""
    return {**value, "seal": digest_json(value)}


def read_sealed(path: Path) -> dict[str, Any] | None:
    """The object in a sealed JSON file, or None when there is none or it was altered. Raises as `read_json`."""
    value = read_json(path)
    try:
        body = {name: item for name, item in (value or {}).items() if name != "seal"}
        return value if value is not None and value.get("seal") == digest_json(body) else None
    except (ValueError, RecursionError):
        return None


def list_files(folder: Path) -> list[str]:
    """Relative POSIX paths of all files below a folder, sorted."""
    return sorted(path.relative_to(folder).as_posix() for path in _all_below(folder) if path.is_file())


def list_links(folder: Path) -> list[str]:
    """Relative POSIX paths of all symbolic links below a folder."""
    return [path.relative_to(folder).as_posix() for path in _all_below(folder) if path.is_symlink()]


def _all_below(folder: Path) -> Iterator[Path]:
    """Unlike rglob it passes over folders that somebody removes meanwhile."""
    for root, folders, files in os.walk(folder):
        yield from (Path(root, name) for name in (*folders, *files))


@contextmanager
def replacing_folder(final: Path, set_aside: Callable[[], object] | None = None) -> Iterator[Path]:
    """A temporary folder that is fsynced and renamed to `final` when the block ends without an error.

    If `final` exists by then, `set_aside` must move it away. On an error the temporary folder is removed and `final`
    stays as it was; a full disk is a StorageError that says how much had been written.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = final.with_name(f"{TEMPORARY_PREFIX}{final.name}-{os.getpid()}")
    remove(temporary)
    temporary.mkdir()
    try:
        yield temporary
        fsync_tree(temporary)
        if set_aside is not None and final.exists():
            set_aside()
        os.rename(temporary, final)
        fsync_path(final.parent)
    except BaseException as error:
        written = num_bytes(temporary) if is_disk_full(error) else 0
        shutil.rmtree(temporary, ignore_errors=True)
        if written:
            raise disk_full(final, f"more than the {written:,} bytes written so far are") from error
        raise


def place_aside(path: Path) -> Path:
    """A free name beside `path`, to which something of it can be moved. An empty folder counts as free."""
    number = 1
    while True:
        aside = path.with_name(f"aside-{path.name}-{number}")
        if not os.path.lexists(aside) or (aside.is_dir() and not list_files(aside) + list_links(aside)):
            return aside
        number += 1


def num_bytes(folder: Path, links: Counter[tuple[int, int]] | None = None) -> int:
    """Bytes that removing a folder frees: of all files below it, but for those that other folders hold as well. `links`
    counts the names of each file in folders that were asked about before and go as well: the last one frees it. What
    vanishes meanwhile counts nothing."""
    gone: Counter[tuple[int, int]] = Counter() if links is None else links
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                status = os.lstat(os.path.join(root, name))
                file = status.st_dev, status.st_ino
                gone[file] += 1
                total += status.st_size if gone[file] == status.st_nlink else 0
    return total


def remove(path: Path) -> None:
    """Remove a file, a folder with all in it, or a link alone, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def discard(path: Path) -> None:
    """Remove what a killed process left. Its children may still write into a folder, so that is renamed first."""
    if path.is_dir() and not path.is_symlink():
        doomed = path.with_name(f"{path.name}-doomed")
        remove(doomed)
        os.rename(path, doomed)
        path = doomed
    remove(path)


def link(source: str | Path, target: str | Path) -> None:
    """Make `target` a hard link to a file that nobody changes any more, or a copy where the file system has none."""
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in NO_HARD_LINKS:
            raise
        shutil.copy2(source, target)


def fsync_tree(folder: Path) -> None:
    """Flush every file and folder below `folder`, itself included."""
    for root, _, files in os.walk(folder):
        for name in files:
            fsync_path(Path(root, name))
        fsync_path(Path(root))
