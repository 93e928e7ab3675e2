"""What may be shown on a terminal, and a hint at the name that was meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

LONGEST_NAME = 60
"""Letters of a name that are compared, since difflib takes long for longer ones."""


def printable(text: str) -> str:
    """Text on one line: what would move the cursor, change colours or reorder letters is escaped, as in `\\x1b`."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The known name that is most like another, in any case of letters; None where none is like it."""
    known = {other.lower(): other for other in names}
    matches = difflib.get_close_matches(name.lower()[:LONGEST_NAME], known, n=1)
    return known[matches[0]] if matches else None


def did_you_mean(name: str, names: Iterable[str], otherwise: str | None = None) -> str:
    """How a message about an unknown name ends: with the known name that is most like it. Where none is, with
    `otherwise`, by default all of them."""
    known = sorted(map(printable, names))
    if near := nearest(name, known):
        return f"; did you mean {near}?"
    if otherwise is None and known:
        return f"; known: {', '.join(known)}"
    return otherwise or ""
