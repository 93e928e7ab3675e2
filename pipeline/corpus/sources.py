"""The files of each source; imported by `plan`, so nothing heavy here."""

from __future__ import annotations

import glob
from itertools import takewhile
from pathlib import Path

from pipeline.config.corpus import IngestConfig, JsonlSource, PythonDocsSource, TextSource
from pipeline.corpus.python_docs import LABEL, library_files
from pipeline.errors import BadDataError, MissingInputError

AnySource = PythonDocsSource | TextSource | JsonlSource


def source_files(source: AnySource) -> dict[Path, str]:
    """The files of a source and how documents name them, sorted within each pattern, each file once.

    The name is the path as configured; for an absolute pattern, the path below the pattern's last fixed folder, so
    that documents do not depend on where a machine keeps its data.
    Raises MissingInputError for a path or pattern that matches no file, BadDataError for a name that is not text.
    """
    if isinstance(source, PythonDocsSource):
        return {path: path.name for path in library_files()}
    found: dict[Path, str] = {}
    for pattern in source.paths:
        matches = sorted(path for name in glob.glob(pattern, recursive=True) if (path := Path(name)).is_file())
        if not matches:
            raise MissingInputError(
                f"ingest.sources: {source.name}: {pattern!r} matches no file in {Path.cwd()}; mend the path"
            )
        unnamed = [path for path in matches if not _is_text(str(path))]
        if unnamed:
            raise BadDataError(
                f"ingest.sources: {source.name}: the name {unnamed[0].name!r} is not UTF-8; rename the file"
            )
        base = _fixed_folder(Path(pattern)) if Path(pattern).is_absolute() else Path()
        for path in matches:
            found.setdefault(path, path.relative_to(base).as_posix())
    return found


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _fixed_folder(pattern: Path) -> Path:
    return Path(*takewhile(lambda part: not glob.has_magic(part), pattern.parent.parts))


def labelled_files(section: IngestConfig) -> dict[str, list[Path]]:
    """All source files under the names by which `plan` speaks of them."""
    files: dict[str, list[Path]] = {}
    for source in section.sources:
        if isinstance(source, PythonDocsSource):
            files[LABEL] = list(source_files(source))
        else:
            files.update({path.as_posix(): [path] for path in source_files(source)})
    return files
