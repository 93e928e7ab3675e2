"""Files of the user's that filters need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.errors import BadDataError, MissingInputError


def read_lines(path: Path) -> list[str]:
    """The lines of a file of text. Raises BadDataError where it is not UTF-8."""
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise BadDataError(f"{path}: not UTF-8 at byte {error.start}; save the list as UTF-8") from None


def file_of_key(path: Path, kind: str, setting: str) -> Mapping[str, Sequence[Path]]:
    """The file, as `Feature.files_of_key` gives it. Raises MissingInputError, which names the filter's kind and the
    setting, where it does not exist."""
    if not path.is_file():
        raise MissingInputError(f"{kind}: {path} does not exist; mend {setting}")
    return {str(path): [path]}
