"""The files of each source; imported by `plan`, so nothing heavy here."""

from __future__ import annotations

import difflib
import os
import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from pipeline.config.corpus import IngestConfig
from pipeline.config.sources import COMPRESSED, AnySource, FilesSource, HubSource, PythonDocsSource
from pipeline.corpus.patterns import expand, fixed_folder
from pipeline.corpus.python_docs import LABEL, library_files
from pipeline.errors import BadDataError, ConfigError, MissingInputError

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)


def source_files(source: AnySource) -> dict[Path, str]:
    """The files of a source and how documents name them, sorted within each pattern, each file once.

    The name is the path as configured; for an absolute pattern, the path below the pattern's last fixed folder, so
    that documents do not depend on where a machine keeps its data. A dataset of the hub has no files.
    Raises MissingInputError for a path or pattern that matches no file and for what is none (a FIFO, a broken link),
    BadDataError for a name that is not text, ConfigError for a dataset of the hub that is not pinned.
    """
    if isinstance(source, PythonDocsSource):
        return {path: path.name for path in library_files()}
    place = f"ingest.sources: {source.name}"
    if isinstance(source, HubSource):
        return _hub_files(source, place)
    found: dict[Path, str] = {}
    for pattern in source.paths:
        base = _base(pattern)
        for path in _matches(pattern, source, place):
            _check_name(path, place)
            found.setdefault(path, path.relative_to(base).as_posix())
    return found


def _matches(pattern: str, source: FilesSource, place: str) -> list[Path]:
    """The files that a pattern stands for, sorted. Folders that a wildcard matches are passed over."""
    literal = Path(pattern)
    if literal.is_dir():
        return _folder_files(literal, source, place)
    paths = [path for path in expand(pattern) if os.path.lexists(path)]
    files = [path for path in paths if path.is_symlink() or not path.is_dir()]
    for path in files:
        _check_regular(path, place)
    files = [path for path in files if path.is_file()]
    if not files:
        raise MissingInputError(f"{place}: {pattern!r} matches no file in {Path.cwd()}{_nearest(literal)}")
    return files


def _nearest(path: Path) -> str:
    """What may have been meant by a path: what is called nearly like its first part that is not there."""
    while not path.parent.is_dir():
        path = path.parent
    near: list[str] = []
    if not any(letter in path.name for letter in "*?["):
        with suppress(OSError):
            near = difflib.get_close_matches(path.name, os.listdir(path.parent), n=1)
    return f"; did you mean {str(path.parent / near[0])!r}?" if near else "; mend the path"


def _folder_files(folder: Path, source: FilesSource, place: str) -> list[Path]:
    endings = source.suffixes
    if source.is_text:
        endings += tuple(f"{suffix}{packed}" for suffix in source.suffixes for packed in COMPRESSED)
    present = sorted(_walk(folder, place))
    files = [path for path in present if path.name.lower().endswith(endings)]
    if not files:
        others = f"; it has {len(present):,} others, such as {present[0].name}" if present else ""
        raise MissingInputError(
            f"{place}: no file below {folder} ends in {' or '.join(source.suffixes)}{others}; "
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


def _hub_files(source: HubSource, place: str) -> dict[Path, str]:
    folder = Path(source.path)
    if folder.is_dir():
        if source.revision:
            raise ConfigError(f"{place}: revision is for datasets of the hub, but {folder} is a folder; remove it")
        files = {path: path.relative_to(folder).as_posix() for path in sorted(_walk(folder, place))}
        if not files:
            raise MissingInputError(f"{place}: the folder {folder} is empty; mend the path")
        for path in files:
            _check_regular(path, place)
            _check_name(path, place)
        return files
    if not _HUB_NAME.fullmatch(source.path):
        raise MissingInputError(
            f"{place}: {source.path!r} is neither a folder nor owner/name of a dataset of the hub; mend the path"
        )
    if source.revision is None:
        raise ConfigError(
            f"{place}: there is no folder {source.path}, and a dataset of the hub needs `revision`, a commit: "
            f"`git ls-remote https://huggingface.co/datasets/{source.path} HEAD` prints the newest"
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
        raise MissingInputError(f"{place}: {path} is {_kind(mode)}, not a regular file; mend the path")


def _kind(mode: int) -> str:
    if stat.S_ISFIFO(mode):
        return "a FIFO"
    return "a socket" if stat.S_ISSOCK(mode) else "a device"


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


def labelled_files(section: IngestConfig) -> dict[str, list[Path]]:
    """All source files under the names by which `plan` speaks of them."""
    files: dict[str, list[Path]] = {}
    for source in section.sources:
        if isinstance(source, PythonDocsSource):
            files[LABEL] = list(source_files(source))
        else:
            files.update({path.as_posix(): [path] for path in source_files(source)})
    return files
