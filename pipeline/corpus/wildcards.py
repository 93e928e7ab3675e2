"""Paths with wildcards, and paths that only look as if they had some."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from pathlib import Path


def expand(pattern: str, folder: Path | None = None) -> list[Path]:
    """The paths that a pattern stands for, sorted; below `folder`, if it is given. `**` is any depth.

    A part of it that exists as it is written stands for itself: `run [v2]/*.txt` are the files of the folder `run [v2]`
    where there is one, else those of `run v` and `run 2`.
    """
    path = Path(folder or "", pattern)
    fixed = fixed_folder(path)
    found = {fixed}
    rest = path.parts[len(fixed.parts) :]
    for number, part in enumerate(rest, start=1):
        found = {each for base in found for each in _matches(base, part, is_last=number == len(rest))}
    return sorted(found)


def fixed_folder(path: Path) -> Path:
    """The beginning of a path that exists as it is written, or has no wildcard; the path itself where that is all."""
    fixed = Path(path.anchor)
    for part in path.parts[len(fixed.parts) :]:
        if glob.has_magic(part) and not os.path.lexists(fixed / part):
            break
        fixed /= part
    return fixed


def _matches(base: Path, part: str, is_last: bool) -> Iterator[Path]:
    if os.path.lexists(base / part):
        yield base / part
    elif part == "**":
        yield base
        names = part if is_last else f"{part}/"
        yield from (base / name for name in glob.glob(names, root_dir=base, recursive=True))
    elif glob.has_magic(part):
        yield from (base / name for name in glob.glob(part, root_dir=base))
