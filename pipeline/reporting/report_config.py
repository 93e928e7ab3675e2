"""The `report` section."""

from __future__ import annotations

from pipeline.section import Section


class ReportConfig(Section):
    """The report and the model card."""

    title: str | None = None
    """Heading of the report and of the model card, e.g. `${run.name}`. Null makes one from the model's size."""

    language: tuple[str, ...] = ()
    """Languages of the text for the model card, as ISO 639 codes, e.g. `[en]`."""

    license: str | None = None
    """Licence of the model for the model card, as a Hugging Face identifier, e.g. `apache-2.0`."""
