"""The files that patterns and folders stand for; imported by `plan`, so nothing heavy here."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from pipeline.console.terminal_text import nearest
from pipeline.corpus.wildcards import expand, fixed_folder
from pipeline.errors import BadDataError, ConfigError, MissingInputError

COMPRESSED = (".gz", ".zst", ".bz2", ".xz")
"""Suffixes of compressed files of text."""

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)


def find_files(
    patterns: Sequence[str], suffixes: tuple[str, ...], packed: tuple[str, ...], place: str
) -> dict[Path, str]:
    """The files that patterns match and how documents name them, sorted within each pattern, each file once.

    Of a folder those are read that end in one of `suffixes`, or of `packed`, their compressed forms. The name is the
    path as configured; for an absolute pattern, the path below the pattern's last fixed folder, so that documents do
    not depend on where a machine keeps its data.
    Raises MissingInputError for a path or pattern that matches no file and for what is none (a FIFO, a broken link),
    BadDataError for a name that is not text.
    """
    found: dict[Path, str] = {}
    for pattern in patterns:
        base = _base(pattern)
        for path in _matches(pattern, suffixes, packed, place):
            _check_name(path, place)
            found.setdefault(path, path.relative_to(base).as_posix())
    return found


def _matches(pattern: str, suffixes: tuple[str, ...], packed: tuple[str, ...], place: str) -> list[Path]:
    """The files that a pattern stands for, sorted. Folders that a wildcard matches are passed over."""
    literal = Path(pattern)
    if literal.is_dir():
        return _folder_files(literal, suffixes, packed, place)
    paths = [path for path in expand(pattern) if os.path.lexists(path)]
    files = [path for path in paths if path.is_symlink() or not path.is_dir()]
    for path in files:
        _check_regular(path, place)
    files = [path for path in files if path.is_file()]
    if not files:
        raise MissingInputError(f"{place}: {pattern!r} matches no file in {Path.cwd()}{_instead(literal)}")
    return files


def _instead(path: Path) -> str:
    """What may have been meant by a path: what is called nearly like its first part that is not there."""
    while not path.parent.is_dir():
        path = path.parent
    near = None
    if not any(letter in path.name for letter in "*?["):
        with suppress(OSError):
            near = nearest(path.name, os.listdir(path.parent))
    return f"; did you mean {str(path.parent / near)!r}?" if near else "; mend the path"


def _folder_files(folder: Path, suffixes: tuple[str, ...], packed: tuple[str, ...], place: str) -> list[Path]:
    present = sorted(_walk(folder, place))
    files = [path for path in present if path.name.lower().endswith(suffixes + packed)]
    if not files:
        others = f"; it has {len(present):,} others, such as {present[0].name}" if present else ""
        raise MissingInputError(
            f"{place}: no file below {folder} ends in {' or '.join(suffixes)}{others}; "
            "mend the path or the type, or name the files with a pattern"
        )
    for path in files:
        _check_regular(path, place)
    return files


def _walk(folder: Path, place: str) -> Iterator[Path]:
    """What is below a folder, hidden things left out, without following links to folders."""

    def refuse(error: OSError) -> None:
        raise MissingInputError(f"{place}: cannot list {error.filename}: {error.strerror}; mend the path") from None

    for current, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(current, name) for name in names if not name.startswith("."))


def find_dataset(name: str, revision: str | None, place: str) -> dict[Path, str]:
    """The files of a dataset in a local folder and how documents name them. One of the hub, `owner/name`, has none.

    Raises MissingInputError, BadDataError as `find_files` does, ConfigError for a dataset of the hub without a commit.
    """
    folder = Path(name)
    if folder.is_dir():
        if revision:
            raise ConfigError(f"{place}: revision is for datasets of the hub, but {folder} is a folder; remove it")
        files = {path: path.relative_to(folder).as_posix() for path in sorted(_walk(folder, place))}
        if not files:
            raise MissingInputError(f"{place}: the folder {folder} is empty; mend the path")
        for path in files:
            _check_regular(path, place)
            _check_name(path, place)
        return files
    if not _HUB_NAME.fullmatch(name):
        raise MissingInputError(
            f"{place}: {name!r} is neither a folder nor owner/name of a dataset of the hub; mend the path"
        )
    if revision is None:
        raise ConfigError(
            f"{place}: there is no folder {name}, and a dataset of the hub needs `revision`, a commit: "
            f"`git ls-remote https://huggingface.co/datasets/{name} HEAD` prints the newest"
        )
    return {}


def _check_regular(path: Path, place: str) -> None:
    """Refuse what would hang or fail when read; opening a FIFO waits for a writer."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        link = f", a link to {os.readlink(path)}" if path.is_symlink() else ""
        raise MissingInputError(f"{place}: cannot read {path}{link}: {error.strerror}; mend the path") from None
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        kind = {stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket"}.get(stat.S_IFMT(mode), "a device")
        raise MissingInputError(f"{place}: {path} is {kind}, not a regular file; mend the path")


def _check_name(path: Path, place: str) -> None:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise BadDataError(f"{place}: the name {path.name!r} is not UTF-8; rename the file") from None


def _base(pattern: str) -> Path:
    """What documents leave out of the paths of a pattern's files."""
    path = Path(pattern)
    if not path.is_absolute():
        return Path()
    fixed = fixed_folder(path)
    return fixed if fixed.is_dir() else fixed.parent
