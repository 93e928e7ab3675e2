"""Repair and unify the text of each document."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from pipeline.corpus.documents import Document
from pipeline.corpus.steps import STEPS, Step
from pipeline.corpus.steps.collapse_whitespace import CollapseWhitespace
from pipeline.corpus.steps.fix_unicode import FixUnicode
from pipeline.corpus.steps.strip_control_characters import StripControlCharacters
from pipeline.corpus.steps.unicode_form import UnicodeForm
from pipeline.features import one_of
from pipeline.section import Section

if TYPE_CHECKING:
    AnyStep = Step
else:
    AnyStep = one_of(STEPS, Step)


class NormalizeConfig(Section):
    """Repair and unify the text of each document."""

    steps: list[AnyStep] = Field(
        default_factory=lambda: [FixUnicode(), UnicodeForm(), StripControlCharacters(), CollapseWhitespace()]
    )
    """What is done to a text, in this order. An empty list leaves it as it is."""

    @model_validator(mode="before")
    @classmethod
    def _steps_are_a_list(cls, values: Any) -> Any:
        """Steps once were settings that turned them on and off."""
        names = [kind.model_fields["type"].default for kind in STEPS]
        given = {name: values[name] for name in names if name in values} if isinstance(values, dict) else {}
        if given:
            chosen = {step.type: True for step in cls().steps} | given
            kept = [
                f"{{type: {name}, form: {chosen[name]}}}" if isinstance(chosen[name], str) else f"{{type: {name}}}"
                for name in names
                if chosen.get(name) not in (None, False, "none")
            ]
            raise ValueError(f"{next(iter(given))} is a step; write steps: [{', '.join(kept)}]")
        return values


def normalize(document: Document, steps: Sequence[Step]) -> list[str]:
    """Apply steps to a document in place and return the names of those that changed it."""
    changed = []
    for step in steps:
        text = step.apply(document.text)
        if text != document.text:
            document.text = text
            changed.append(step.label)
    document.changes = [*document.changes, *(f"normalize:{name}" for name in changed)]
    return changed
