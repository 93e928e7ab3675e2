"""Drop documents that are lists."""

from __future__ import annotations

from pydantic import Field

from pipeline.corpus.filters.base_text_filter import TextFilter, share_of

_BULLETS = ("•", "-")


def bullet_lines(text: str) -> float:
    """Which part of the lines begins with a bullet or a hyphen."""
    return share_of([line.lstrip().startswith(_BULLETS) for line in text.splitlines()])


class MaxBulletLines(TextFilter, type="max_bullet_lines"):
    """Drop documents in which more than `value` of the lines begin with a bullet or a hyphen."""

    value: float = Field(default=0.9, ge=0, le=1)
    """Largest part of the lines."""

    def reason_of(self, text: str) -> str | None:
        return "more bullets than max_bullet_lines" if bullet_lines(text) > self.value else None
