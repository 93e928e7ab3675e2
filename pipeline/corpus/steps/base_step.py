"""What every normalization step has."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from pipeline.features import Feature


class Step(Feature):
    """One thing done to the text of every document."""

    plain: ClassVar[bool] = False
    """Whether it leaves every plain text as it is (`normalize_config.is_plain`) and need not be given any. A class that
    is derived says so anew."""

    @property
    def label(self) -> str:
        """How the step is called where a document says what changed it."""
        return self.type

    @abstractmethod
    def apply(self, text: str) -> str:
        """The text as it is to be; the same where there is nothing to do. Depends on nothing but the text."""

    def apply_all(self, texts: Sequence[str]) -> Sequence[str]:
        """Each text as it is to be. A step may do faster together what `apply` does one by one."""
        return [self.apply(text) for text in texts]
