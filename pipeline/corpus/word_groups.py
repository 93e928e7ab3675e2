"""Lexicons: groups of words of which each can stand for the others."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.errors import BadDataError, MissingInputError
from pipeline.shipped import FOLDER

SYNONYMS = FOLDER / "data" / "synonyms.txt"
ANTONYMS = FOLDER / "data" / "antonyms.txt"
"""The lexicons that come with the project; described in data/README.md."""


def files_of_lexicon(path: Path | None, shipped: Path) -> Mapping[str, Sequence[Path]]:
    """The file of a lexicon for the key; null is the shipped one. Raises MissingInputError, and as `read_lexicon`."""
    if not (path or shipped).is_file():
        raise MissingInputError(f"augment.operations: lexicon {path} does not exist; mend the path")
    read_lexicon(path or shipped)
    return {f"lexicon {shipped.name}" if path is None else path.as_posix(): [path or shipped]}


def others_of_lexicon(path: Path) -> dict[str, tuple[str, ...]]:
    """Of each word of a lexicon the others of its group, in their order."""
    return {word: tuple(o for o in group if o != word) for group in read_lexicon(path) for word in group}


def read_lexicon(path: Path) -> tuple[tuple[str, ...], ...]:
    """Groups of interchangeable words of a lexicon file: one group a line, commas between, `#` starts a comment.

    Raises BadDataError for a file that is not UTF-8, a line with fewer than two words, a word that is not lower-case
    letters, or a word that stands in two groups.
    """
    groups = []
    seen: dict[str, int] = {}
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise BadDataError(f"{path}: not UTF-8 at byte {error.start}; save the lexicon as UTF-8") from None
    for number, line in enumerate(text.splitlines(), start=1):
        words = tuple(word.strip() for word in line.partition("#")[0].split(",") if word.strip())
        if not words:
            continue
        wrong = [word for word in words if not re.fullmatch(r"[a-z]+", word)]
        if wrong:
            raise BadDataError(f"{path}:{number}: {wrong[0]!r} is not one word of lower-case letters")
        if len(words) < 2:
            raise BadDataError(f"{path}:{number}: a group needs two words or more")
        repeated = [word for word in words if seen.setdefault(word, number) != number]
        if repeated:
            raise BadDataError(f"{path}:{number}: {repeated[0]!r} stands in line {seen[repeated[0]]} already")
        groups.append(words)
    return tuple(groups)
