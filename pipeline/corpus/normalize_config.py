"""Repair and unify the text of each document."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

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


_PLAIN = bytes(code for code in (*b"\n\t", *range(32, 127)) if code != ord("&"))


def is_plain(text: str) -> bool:
    """Whether a text is one that steps with `plain` leave alone: printable ASCII without `&`, line feeds and tabs, with
    no white space at line ends, no outer blank lines and at most two blank lines in a row."""
    return not (
        not text.isascii()
        or text.encode().translate(None, _PLAIN)
        or " \n" in text
        or "\t\n" in text
        or "\n\n\n\n" in text
        or text.startswith("\n")
        or text.endswith((" ", "\t", "\n"))
    )


def normalize(texts: Sequence[str], steps: Sequence[Step]) -> tuple[list[str], list[tuple[str, ...]]]:
    """Apply steps to texts. Gives the new texts, and for each the labels of the steps that changed it."""
    found = list(texts)
    changes: list[tuple[str, ...]] = [()] * len(found)
    plain = [is_plain(text) for text in found]
    for step in steps:
        skips_plain = vars(type(step)).get("plain", False)
        chosen = [n for n in range(len(found)) if not (skips_plain and plain[n])]
        for n, text in zip(chosen, step.apply_all([found[n] for n in chosen]), strict=True):
            if text != found[n]:
                found[n] = text
                changes[n] = (*changes[n], step.label)
                plain[n] = is_plain(text)
    return found, changes
