"""The files of each source; imported by `plan`, so nothing heavy here."""

from __future__ import annotations

import glob
from pathlib import Path

from pipeline.config.corpus import IngestConfig, JsonlSource, PythonDocsSource, TextSource
from pipeline.corpus.python_docs import LABEL, library_files
from pipeline.errors import MissingInputError

AnySource = PythonDocsSource | TextSource | JsonlSource


def source_files(source: AnySource) -> list[Path]:
    """The files of a source, sorted within each pattern, each once.

    Raises MissingInputError for a path or pattern that matches no file.
    """
    if isinstance(source, PythonDocsSource):
        return library_files()
    found: dict[Path, None] = {}
    for pattern in source.paths:
        matches = sorted(path for name in glob.glob(pattern, recursive=True) if (path := Path(name)).is_file())
        if not matches:
            raise MissingInputError(
                f"ingest.sources: {source.name}: {pattern!r} matches no file in {Path.cwd()}; mend the path"
            )
        found.update(dict.fromkeys(matches))
    return list(found)


def labelled_files(section: IngestConfig) -> dict[str, list[Path]]:
    """All source files under the names by which `plan` speaks of them."""
    files: dict[str, list[Path]] = {}
    for source in section.sources:
        if isinstance(source, PythonDocsSource):
            files[LABEL] = source_files(source)
        else:
            files.update({path.as_posix(): [path] for path in source_files(source)})
    return files
