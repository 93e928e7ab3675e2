"""Drop documents of lines that are cut off."""

from __future__ import annotations

from pydantic import Field

from pipeline.corpus.filters.base_text_filter import TextFilter, share_of

_ELLIPSES = ("...", "…")


def ellipsis_lines(text: str) -> float:
    """Which part of the lines ends with an ellipsis."""
    return share_of([line.rstrip().endswith(_ELLIPSES) for line in text.splitlines()])


class MaxEllipsisLines(TextFilter, type="max_ellipsis_lines"):
    """Drop documents in which more than `value` of the lines end with an ellipsis, as in lists of excerpts."""

    value: float = Field(default=0.3, ge=0, le=1)
    """Largest part of the lines."""

    def reason_of(self, text: str) -> str | None:
        return "more ellipses than max_ellipsis_lines" if ellipsis_lines(text) > self.value else None
