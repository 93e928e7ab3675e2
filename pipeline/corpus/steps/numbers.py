"""Write all numbers alike."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import model_validator

from pipeline.corpus.steps.base_step import Step
from pipeline.features import UNICODE

_FOUND = {"digit": re.compile(r"\d"), "number": re.compile(r"\d+(?:[.,]\d+)*")}


class Numbers(Step, type="numbers"):
    """Write the same in place of every digit, of any script, or of every number."""

    each: Literal["digit", "number"] = "digit"
    """What is replaced: each digit, or each number with its points and commas between digits."""

    by: str = "0"
    """What stands in its place."""

    @model_validator(mode="after")
    def _stays_as_it_is(self) -> Self:
        if self.apply(self.by) != self.by:
            raise ValueError(
                f"by {self.by!r} has a {self.each} of its own, which would be replaced in turn; use one without, or 0"
            )
        return self

    def facts_of_key(self) -> Mapping[str, Any]:
        return UNICODE

    def apply(self, text: str) -> str:
        """The text with all of them replaced."""
        return _FOUND[self.each].sub(lambda _: self.by, text)
