"""Which documents a row of a split is made of."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DocumentPart:
    """What of a document stands in a row: its number in the split, from 0; the targets of the row that are its tokens,
    or its label; and where the first of its tokens in the row is in the stream."""

    document: int
    targets: slice
    first_token: int
