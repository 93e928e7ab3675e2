"""Which repeated paragraphs go."""

from __future__ import annotations

from pydantic import Field

from pipeline.section import Section


class RepeatedParagraphs(Section):
    """Take paragraphs out of documents that stay which stand in an earlier one, or before in the same, up to case and
    white space. Those of test documents count as the earliest, then those of validation documents."""

    min_chars: int = Field(default=80, ge=1)
    """Shorter paragraphs may stand anywhere. Paragraphs end at blank lines."""
