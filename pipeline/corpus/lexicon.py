"""Groups of interchangeable words."""

from __future__ import annotations

import re
from pathlib import Path

from pipeline.errors import BadDataError

SHIPPED = Path(__file__).parents[2] / "data" / "synonyms.txt"
"""The lexicon that comes with the project; described in data/README.md."""


def read_lexicon(path: Path) -> tuple[tuple[str, ...], ...]:
    """Groups of interchangeable words of a lexicon file: one group a line, commas between, `#` starts a comment.

    Raises BadDataError for a line with fewer than two words, a word that is not lower-case letters, or a word
    that stands in two groups.
    """
    groups = []
    seen: dict[str, int] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
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
