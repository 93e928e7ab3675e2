"""What may be shown on a terminal."""

from __future__ import annotations


def printable(text: str) -> str:
    """Text on one line: what would move the cursor, change colours or reorder letters is escaped, as in `\\x1b`."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
