"""Files of the user's with an entry a line."""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import BadDataError


def read_lines(path: Path) -> list[str]:
    """The lines of a file of text. Raises BadDataError where it is not UTF-8."""
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise BadDataError(f"{path}: not UTF-8 at byte {error.start}; save the list as UTF-8") from None
